"""Folders that are written are read again, to the bit."""

import json
import re

import numpy as np
import pytest
from convert import tiny_folders

from flowdistill.convert.diffusers_folder import open_folder
from flowdistill.convert.diffusers_writing import divided, write_folder

NETWORKS = {
  kind: {'name': kind, 'target_time': None, 'scalars': ()}
  | {k: v for k, v in config.items() if not k.startswith('_')}
  for kind, (config, _) in tiny_folders.KINDS.items()
}


@pytest.mark.parametrize('most', [1, 10**9])
@pytest.mark.parametrize('kind', NETWORKS)
def test_what_is_written_is_read_to_the_bit(tmp_path, kind, most):
  theirs = tiny_folders.tensors(kind)
  write_folder(tmp_path / 'new', NETWORKS[kind], theirs, most=most)
  found = open_folder(tmp_path / 'new')
  assert len(found.files) == 1 + (len(theirs) if most == 1 else 1)
  assert found.tensors.keys() == theirs.keys()
  for name, array in theirs.items():
    np.testing.assert_array_equal(found.tensors[name].read(), array)


@pytest.mark.parametrize('kind', NETWORKS)
def test_sizes_that_the_data_decided_are_in_the_config(tmp_path, kind):
  wanted = {
    k: v for k, v in NETWORKS[kind].items() if k not in ('name', 'scalars')
  }
  unsaid = ('in_channels', 'joint_attention_dim', 'pooled_projection_dim')
  network = NETWORKS[kind] | dict.fromkeys((*unsaid, 'out_channels'))
  write_folder(tmp_path / 'new', network, tiny_folders.tensors(kind))
  found = json.loads((tmp_path / 'new' / 'config.json').read_text())
  del wanted['target_time']
  if wanted['out_channels'] is None:  # those of the input
    wanted['out_channels'] = wanted['in_channels']
  found = {k: v for k, v in found.items() if not k.startswith('_')}
  assert found == json.loads(json.dumps(wanted))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'name': 'dit'}, "network.name = 'dit' must be one of 'flux', 'sd3' for"),
  ],
)
def test_what_diffusers_does_not_have_is_refused(tmp_path, change, message):
  theirs = tiny_folders.tensors('flux')
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    write_folder(tmp_path / 'new', NETWORKS['flux'] | change, theirs)
  half = NETWORKS['flux'] | {'target_time': 'midpoint'}
  more = theirs | {'label.weight': np.ones(1)}
  with pytest.raises(ValueError, match='^label.weight: diffusers has no such'):
    write_folder(tmp_path / 'new', half, more)
  assert not (tmp_path / 'new').exists()


def test_a_file_has_as_much_as_fits():
  arrays = {str(i): np.ones(n, np.int8) for i, n in enumerate([3, 2, 9, 1, 4])}
  found = [list(part) for part in divided(arrays, 5)]
  assert found == [['0', '1'], ['2'], ['3', '4']]


@pytest.mark.slow
@pytest.mark.parametrize('kind', NETWORKS)
def test_diffusers_loads_it_and_saves_what_we_read(tmp_path, kind):
  """To the bit, with no tensor that is missing or not expected."""
  torch = pytest.importorskip('torch')
  diffusers = pytest.importorskip('diffusers')
  theirs = tiny_folders.tensors(kind)
  write_folder(tmp_path / 'ours', NETWORKS[kind], theirs, most=20_000)
  model, report = getattr(
    diffusers, tiny_folders.KINDS[kind][0]['_class_name']
  ).from_pretrained(tmp_path / 'ours', output_loading_info=True)
  assert not any(report.values())
  state = model.state_dict()
  assert state.keys() == theirs.keys()
  for name, array in theirs.items():
    assert torch.equal(state[name], torch.from_numpy(array)), name
  model.save_pretrained(tmp_path / 'theirs', max_shard_size='20KB')
  found = open_folder(tmp_path / 'theirs')
  assert len(found.files) > 2
  for name, array in theirs.items():
    np.testing.assert_array_equal(found.tensors[name].read(), array)
