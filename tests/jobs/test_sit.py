"""SiT and MeanFlow as runs: from files of PyTorch and Flax, and back."""

import json

import numpy as np
import pytest
from jobs import tiny
from jobs.test_convert import foreign
from safetensors.numpy import load_file, save_file

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.convert import CONVERTERS, sit
from flowdistill.convert.arrays import read_chosen
from flowdistill.files.flax_tree import write_flax
from flowdistill.jobs import convert, train
from flowdistill.workdir.record import load_spec

NETWORK = {'name': 'sit', 'width': 8, 'depth': 1, 'heads': 2}


def stages(folder, network=None, **more):
  stage = {
    'dataset': 'digits',
    'network': {**NETWORK, **(network or {})},
    'objective': 'rectified_flow',
    'train': {'steps': 1, 'batch_size': 4},
    'ema': {'main': {'half_life': {'steps': 9}}},
    **more,
  }
  path = folder / 'config.py'
  path.write_text(f'def get_config(arg=""):\n  return {stage!r}\n')
  return tiny.stages(path)


def contiguous(arrays):
  return {name: np.asarray(x, order='C') for name, x in arrays.items()}


@pytest.mark.slow
def test_a_teacher_from_a_file_and_a_student_of_it(tmp_path):
  specs, file, to = stages(tmp_path), tmp_path / 'w.safetensors', tmp_path / 'r'
  theirs = contiguous(foreign(specs['run'])[0])
  save_file(theirs, file)
  options = convert.Options(from_=str(file), to=str(to))
  made = tiny.run(convert, specs, tmp_path, options)
  assert made.largest_error < 1e-4 < made.largest_velocity
  assert all(name.startswith('times.of_s.') for name in made.ours_alone)
  assert load_spec(to)['evaluation']['grid'] == {'name': 'uniform'}
  assert flowdistill.load(to).sample(2, nfe=1).shape == (2, 8, 8, 1)
  back = convert.Options(to=str(tmp_path / 'b.safetensors'), weights='params')
  tiny.run(convert, specs, to, back)
  again = load_file(tmp_path / 'b.safetensors')
  assert again.keys() == theirs.keys()
  assert all(again[n].tobytes() == x.tobytes() for n, x in theirs.items())
  emd = {'name': 'ayf_emd', 'warmup_steps': 0}
  student = stages(
    tmp_path,
    {'scalars': ('guidance',)},
    objective={**emd, 'guidance': {'name': 'uniform', 'low': 1.0, 'high': 2.0}},
    frozen={'teacher': str(to), 'weak': str(to)},
    init_from={'source': str(to), 'matching': True},
  )
  run = tmp_path / 'student'
  tiny.run(train, student, run, train.Options())
  assert flowdistill.load(run).sample(2, nfe=1).shape == (2, 8, 8, 1)


@pytest.mark.slow
def test_a_checkpoint_of_flax_and_back(tmp_path):
  specs, file, to = (
    stages(tmp_path, {'time': 'mean_flow'}),
    tmp_path / 'checkpoint',
    tmp_path / 'run',
  )
  theirs = contiguous(sit.to_flax(foreign(specs['run'])[0]))
  state = {f'params.{name}': x for name, x in theirs.items()}
  state |= {f'ema_params.{name}': 2 * x for name, x in theirs.items()}
  state |= {f'opt_state.0.mu.{name}': x for name, x in theirs.items()}
  write_flax(file, state)
  options = convert.Options(from_=str(file), to=str(to))
  made = tiny.run(convert, specs, tmp_path, options)
  assert made.averages
  assert made.ours_alone == ['position']
  said = json.loads((to / 'conversion.json').read_text())
  assert said['prefixes'] == {
    'params': ['params.net.'],
    'ema': ['ema_params.net.'],
  }
  for weights, factor in (('params', 1), ('ema', 2)):
    new = tmp_path / f'{weights}.msgpack'
    tiny.run(convert, specs, to, convert.Options(to=str(new), weights=weights))
    back = read_chosen(new, lambda names: names)
    assert back.keys() == theirs.keys()
    for name, x in theirs.items():
      np.testing.assert_array_equal(back[name], factor * x, err_msg=name)


@pytest.mark.parametrize(
  ('there', 'here', 'message'),
  [
    ({'time': 'mean_flow'}, {}, r"w\.npz: network\.time must be 'mean_flow'"),
    (
      {},
      {'time': 'mean_flow'},
      r"w\.npz: network\.time must be 'sit' or 'repa",
    ),
    ({}, {'variance': True}, r'w\.npz: network\.variance = True must be False'),
    ({}, {'patch': 4}, r'w\.npz: .* x_embedder\.proj\.weight of shape'),
  ],
)
def test_a_file_of_another_network_is_refused(tmp_path, there, here, message):
  np.savez(tmp_path / 'w.npz', **foreign(stages(tmp_path, there)['run'])[0])
  options = convert.Options(
    from_=str(tmp_path / 'w.npz'), to=str(tmp_path / 'run')
  )
  with pytest.raises(ConfigError, match=message):
    tiny.run(convert, stages(tmp_path, here), tmp_path, options)
  assert not list(tmp_path.glob('run*'))


def test_networks_that_are_not_in_flax_are_not_written_so():
  with pytest.raises(
    ValueError, match=r'weights of EDM2 have no names in Flax'
  ):
    CONVERTERS['edm2'].in_flax({})
