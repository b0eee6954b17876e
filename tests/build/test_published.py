"""Networks in folders of diffusers, by the references of a config."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from convert import tiny_folders
from safetensors.numpy import save_file

from flowdistill.build.published import (
  is_published,
  open_published,
)
from flowdistill.build.tables import resolve_stage
from flowdistill.build.weights import Weights
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference
from flowdistill.convert import CONVERTERS, sd3_original
from flowdistill.convert.lora import Factors
from flowdistill.convert.lora_files import write_diffusers
from flowdistill.stages.assembly import assemble, fresh_state
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check import check_train
from flowdistill.training.mesh import make_mesh
from flowdistill.training.named_arrays import by_name
from flowdistill.training.sharding import Layout
from flowdistill.workdir import weights

HERE = pathlib.Path(__file__).parent


def saved(folder, network, **changes):
  """The tensors of a folder that is written."""
  config, _ = tiny_folders.KINDS[network]
  arrays = tiny_folders.tensors(network)
  tiny_folders.save(folder, {**config, **changes}, arrays, 2)
  return arrays


@pytest.mark.slow
@pytest.mark.parametrize('network', tiny_folders.KINDS)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_its_weights_are_those_of_the_folder(tmp_path, network, dtype):
  theirs = saved(tmp_path, network)
  assert is_published(str(tmp_path))
  _, spec = tiny_folders.KINDS[network]
  reference = Reference(str(tmp_path), dtype=dtype)
  found = open_published(reference, spec, 'frozen.teacher')
  assert found.model.signature == 'velocity'
  params = by_name(found.load(dtype, Layout(make_mesh())))
  shapes = {n: x.shape for n, x in params.items()}
  wanted = CONVERTERS[network].from_torch(theirs, shapes)
  assert wanted.keys() == params.keys()
  for name, array in wanted.items():
    assert params[name].dtype == dtype
    np.testing.assert_array_equal(
      params[name], array.astype(params[name].dtype)
    )
  assert len(found.digest) == 64


@pytest.mark.parametrize('network', tiny_folders.KINDS)
def test_a_lora_is_merged_with_its_weights(tmp_path, network):
  """W + (α / r) B A of its layer, and no other array changes."""
  theirs, layer = saved(tmp_path, network), 'transformer_blocks.0.attn.to_q'
  out, inside = theirs[f'{layer}.weight'].shape
  rng, file = np.random.default_rng(0), tmp_path / 'lora' / 'a.safetensors'
  a = rng.normal(size=(2, inside)).astype(np.float32)
  b = rng.normal(size=(out, 2)).astype(np.float32)
  file.parent.mkdir()
  write_diffusers(file, {layer: Factors(a, b, 3.0)})
  _, spec = tiny_folders.KINDS[network]
  plain, merged = (
    open_published(Reference(str(tmp_path), lora=lora), spec, 'init_from')
    for lora in (None, str(file))
  )
  assert plain.digest != merged.digest
  params = by_name(merged.load('float32', Layout(make_mesh())))
  theirs[f'{layer}.weight'] = theirs[f'{layer}.weight'] + 1.5 * (b @ a)
  wanted = CONVERTERS[network].from_torch(
    theirs, {n: x.shape for n, x in params.items()}
  )
  before = by_name(plain.load('float32', Layout(make_mesh())))
  changed = [n for n in wanted if not np.array_equal(params[n], before[n])]
  assert len(changed) == 1
  for name, array in wanted.items():
    np.testing.assert_allclose(params[name], array, atol=1e-6, err_msg=name)


def test_a_single_file_is_read_as_the_folder_and_takes_a_lora(tmp_path):
  """By the original names; the LoRA has layers of diffusers all the same."""
  theirs, layer = saved(tmp_path, 'sd3'), 'transformer_blocks.0.attn.to_q'
  single, lora = tmp_path / 'sd3.safetensors', tmp_path / 'a.safetensors'
  original = sd3_original.to_original(theirs)
  save_file({n: np.array(x, order='C') for n, x in original.items()}, single)
  out, inside = theirs[f'{layer}.weight'].shape
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, inside)), rng.normal(size=(out, 2))
  factors = Factors(a.astype(np.float32), b.astype(np.float32), 3.0)
  write_diffusers(lora, {layer: factors})
  _, spec = tiny_folders.KINDS['sd3']
  assert is_published(str(single))
  found = [
    open_published(Reference(str(source), lora=str(lora)), spec, 'init_from')
    for source in (tmp_path, single)
  ]
  folder, file = (by_name(each.load('float32', None)) for each in found)
  assert folder.keys() == file.keys()
  for name, array in folder.items():
    np.testing.assert_array_equal(array, file[name], err_msg=name)
  digests = [each.digest for each in found]
  assert digests[0] != digests[1]
  moved = single.rename(tmp_path / 'moved.safetensors')
  again = Reference(str(moved), lora=str(lora))
  assert open_published(again, spec, 'init_from').digest == digests[1]


def test_a_file_of_another_network_names_the_key(tmp_path):
  file = tmp_path / 'x.safetensors'
  save_file({'conv.weight': np.ones(3, np.float32)}, file)
  _, spec = tiny_folders.KINDS['flux']
  match = r'^config\.frozen\.teacher: .*must have the weights of flux or sd3'
  with pytest.raises(ConfigError, match=match):
    open_published(Reference(str(file)), spec, 'frozen.teacher')


def test_a_lora_of_another_network_is_named(tmp_path):
  saved(tmp_path, 'flux')
  file = tmp_path / 'lora.safetensors'
  wrong = Factors(np.ones((1, 5), np.float32), np.ones((7, 1), np.float32), 1)
  write_diffusers(file, {'transformer_blocks.0.attn.to_q': wrong})
  _, spec = tiny_folders.KINDS['flux']
  reference = Reference(str(tmp_path), lora=str(file))
  with pytest.raises(
    ConfigError, match=r'^config\.init_from: .*has A of shape'
  ):
    open_published(reference, spec, 'init_from')


def test_it_has_the_form_of_attention_of_the_reference(tmp_path):
  saved(tmp_path, 'flux')
  reference = Reference(
    str(tmp_path), dtype='bfloat16', attention_form='blockwise'
  )
  _, spec = tiny_folders.KINDS['flux']
  found = open_published(reference, spec, 'frozen.teacher')
  assert 'blockwise' in str(found.model.graph)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'zero_cond_t': True}, r'config\.json.*zero_cond_t'),
    ({'num_layers': 'x'}, r"config\.json.*num_layers = 'x'"),
    ({'joint_attention_dim': 8}, r'joint_attention_dim = 8'),
    (
      {'num_layers': 2},
      r'transformer_blocks\.1\..*: these tensors are m',
    ),
  ],
)
def test_a_config_that_does_not_fit_is_named(tmp_path, changes, message):
  saved(tmp_path, 'flux', **changes)
  _, spec = tiny_folders.KINDS['flux']
  with pytest.raises(
    ConfigError, match=rf'^config\.frozen\.teacher.*{message}'
  ):
    open_published(Reference(str(tmp_path)), spec, 'frozen.teacher')


def test_weights_that_are_not_finite_end_in_one_line(tmp_path):
  arrays = tiny_folders.tensors('flux')
  arrays = {n: np.full_like(x, np.nan) for n, x in arrays.items()}
  tiny_folders.save(tmp_path, tiny_folders.FLUX, arrays)
  _, spec = tiny_folders.KINDS['flux']
  reference = Reference(str(tmp_path))
  found = open_published(reference, spec, 'frozen.teacher')
  model = found.model
  abstract = Weights(reference, model, model.params, published=found)
  with pytest.raises(ConfigError, match=r'safetensors: \S+ has numbers that a'):
    weights.load('teacher', abstract)


def test_a_file_that_is_missing_is_named_and_a_long_name_is_none(tmp_path):
  _, spec = tiny_folders.KINDS['flux']
  for name in ('flux1-dev.safetensors', 'flux1-dev.sft', 'X.SAFETENSORS'):
    source = str(tmp_path / name)
    assert is_published(source)
    with pytest.raises(
      ConfigError, match=rf'^config\.init_from: there is no file .*{name}'
    ):
      open_published(Reference(source), spec, 'init_from')
  assert not is_published(f'{"a" * 300}.safetensors')
  (tmp_path / 'run.safetensors').mkdir()
  assert not is_published(str(tmp_path / 'run.safetensors'))


@pytest.mark.parametrize('source', ['nowhere', '.', '~nobody-here/x'])
def test_other_sources_are_no_folders_of_diffusers(source):
  assert not is_published(source)


@pytest.mark.slow
@pytest.mark.parametrize('form', [[], ['single']])
def test_little_is_in_memory_beside_the_weights_that_are_placed(form):
  """Less than 1.2 times the file, here of 132 million numbers of zero."""
  out = subprocess.run(
    [sys.executable, HERE / 'import_memory.py', '512', '8', *form],
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert float(out.stdout.split()[-1]) < 1.2


@pytest.mark.slow
def test_a_stage_starts_from_a_folder_and_is_taught_by_it(tmp_path):
  """A student of two times, whose second embedding the folder has not."""
  size, length, width = 8, 4, 8
  config = tiny_folders.FLUX | {
    'in_channels': 4,
    'num_single_layers': 1,
    'joint_attention_dim': width,
    'pooled_projection_dim': 4,
  }
  text = {'name': 'random_features', 'length': length, 'width': width}
  sizes = {k: v for k, v in config.items() if not k.startswith('_')}
  folder = tmp_path / 'transformer'
  spec = resolve_stage(
    {
      'dataset': {'name': 'digits', 'size': size, 'text': text},
      'network': {
        'name': 'flux',
        **sizes,
        'axes_dims_rope': (2, 4, 2),
        'target_time': 'scaled_gap',
      },
      'objective': 'ayf_emd',
      'train': {'steps': 1, 'batch_size': 4},
      'init_from': {'source': str(folder), 'matching': True},
      'frozen': {'teacher': {'source': str(folder), 'dtype': 'bfloat16'}},
    }
  )
  blueprints = Blueprints({'': spec}, tmp_path / 'run')
  blueprint = blueprints['']
  params = by_name(blueprint.learners['student'].model.params)
  shapes = {n: x.shape for n, x in params.items() if '.of_s.' not in n}
  assert len(shapes) < len(params)
  theirs = tiny_folders.tensors('flux', shapes)
  tiny_folders.save(folder, config, theirs)
  check_train(blueprints, '')
  turned = {**spec['network'], 'axes_dims_rope': (4, 2, 2)}
  other = Blueprints({'': {**spec, 'network': turned}}, tmp_path / 'other')
  with pytest.raises(
    ConfigError, match=r'network\.axes_dims_rope = \(4, 2, 2\)'
  ):
    check_train(other, '')
  assembly = assemble(blueprint, tmp_path / 'run')
  assert 'of sha256' in assembly.references['teacher']
  wanted = CONVERTERS['flux'].from_torch(theirs, shapes)
  teacher = by_name(assembly.frozen['teacher'])
  assert teacher.keys() == wanted.keys()
  student = by_name(fresh_state(assembly).roles['student'].params)
  for name, array in wanted.items():
    assert teacher[name].dtype == 'bfloat16'
    np.testing.assert_array_equal(
      teacher[name], array.astype(teacher[name].dtype)
    )
    np.testing.assert_array_equal(student[name], array)
