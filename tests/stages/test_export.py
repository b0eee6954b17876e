"""Stages in files of other programs: of a LoRA, its factors alone."""

import pathlib

import numpy as np
import pytest
from jobs import tiny
from safetensors.numpy import load_file

from flowdistill.build.lora_files import read_lora_file
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import convert, train
from flowdistill.stages.export import check_factors

NETWORK = {
  'name': 'sd3',
  'sample_size': 24,
  'patch_size': 4,
  'num_layers': 2,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'pos_embed_max_size': 6,
}
LAYERS = ('blocks_*.picture.project.*', 'blocks_*.text.up')
LORA = {'layers': LAYERS, 'rank': 2, 'alpha': 8.0}
SCALE = 4.0
STAGES = {
  'flow': {'objective': 'rectified_flow'},
  'own': {
    'network': {**NETWORK, 'target_time': 'midpoint'},
    'init_from': {'source': 'stage:flow', 'dtype': 'bfloat16'},
    'lora': LORA,
  },
  'two': {
    'network': {**NETWORK, 'target_time': 'scaled_gap'},
    'init_from': {'source': 'stage:flow', 'matching': True},
    'lora': {**LORA, 'full': ('times.of_s.*',)},
  },
  'last': {
    'network': {**NETWORK, 'target_time': 'midpoint'},
    'init_from': 'stage:flow',
    'lora': {**LORA, 'full': ('last.*',)},
  },
}
CONFIG = {
  'dataset': {
    'name': 'shapes',
    'size': 24,
    'text': {'name': 'random_features', 'length': 4, 'width': 8},
  },
  'network': NETWORK,
  'objective': 'rectified_flow',
  'train': {'steps': 2, 'batch_size': 4},
  'optim': {'schedule': {'name': 'constant', 'learning_rate': 0.05}},
  'evaluators': {},
  'stages': STAGES,
}


@pytest.fixture(scope='module')
def specs(tmp_path_factory):
  path = tmp_path_factory.mktemp('config') / 'config.py'
  path.write_text(f'def get_config(arg=""):\n  return {CONFIG!r}\n')
  return tiny.stages(path)


def options(to, **more):
  return convert.Options(to=str(to), **more)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'as_': 'lore'}, "^--as=lore must be one of .*; did you mean 'lora'"),
    ({'as_': 'lora', 'from_': 'a.pth'}, '^--as=lora has no effect with --from'),
    (
      {'as_': 'kohya', 'to': 'a.npz'},
      r'must end in \.safetensors with --as=ko',
    ),
    (
      {'as_': 'lora', 'to': 'folder'},
      r'must end in \.safetensors with --as=lo',
    ),
  ],
)
def test_a_form_that_cannot_be_is_refused(given, message):
  with pytest.raises(ConfigError, match=message):
    convert.Options(**{'to': 'new.safetensors', **given})


@pytest.mark.slow
def test_what_a_file_of_lora_would_lose_is_refused(specs, tmp_path):
  blueprints = tiny.Blueprints(specs, tmp_path, recorded=False)
  lost = 'last.bias, last.kernel learn beside'
  for stage, message in {
    'flow': 'config.stages.flow.lora = None must be set: .* --as=merged',
    'two': r'^time_text_embed_2\..*linear_1\.bias, .*: the class of diffusers',
    'last': rf'config\.stages\.last\.lora\.full must be empty: {lost}',
  }.items():
    with pytest.raises(ValueError, match=message):
      check_factors(blueprints[stage])


@pytest.fixture(scope='module')
def trained(specs, tmp_path_factory):
  """The workdir of a stage with LoRA and its base."""
  workdir = tmp_path_factory.mktemp('runs')
  some = {name: specs[name] for name in ('flow', 'own')}
  train.run(tiny.check_here(some, workdir), train.Options())
  return workdir


def written(specs, workdir, to, stage, **more):
  some = {name: specs[name] for name in ('flow', 'own')}
  tiny.run(convert, some, workdir, options(to, stage=stage, **more))
  return load_file(to)


@pytest.mark.slow
def test_the_updates_in_the_file_are_those_that_are_merged(
  specs, trained, tmp_path
):
  base, merged, lora = (
    written(specs, trained, tmp_path / f'{name}.safetensors', stage, **more)
    for name, stage, more in (
      ('base', 'flow', {}),
      ('merged', 'own', {}),
      ('lora', 'own', {'as_': 'lora'}),
    )
  )
  layers = {n.removesuffix('.lora_A.weight') for n in lora} - lora.keys()
  layers -= {n for n in layers if n.endswith('.weight')}
  assert len(layers) == 2 * 3 + 1  # the last block has no text.up
  for layer in layers:
    a, b = (lora[f'{layer}.lora_{x}.weight'] for x in 'AB')
    name = f'{layer.removeprefix("transformer.")}.weight'
    moved = merged.pop(name) - base[name]
    assert np.abs(moved).max() > 1e-3
    # The base of the factors is in bfloat16.
    np.testing.assert_allclose(b @ a, moved, atol=2**-8)
  for name, array in merged.items():
    np.testing.assert_allclose(array, base[name], atol=2**-8, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('form', ['lora', 'kohya'])
def test_the_factors_are_those_of_the_checkpoint(
  specs, trained, tmp_path, form
):
  to = tmp_path / 'lora.safetensors'
  written(specs, trained, to, 'own', as_=form, weights='params')
  name = 'roles.student.params.'
  own = {
    n.removeprefix(name): np.asarray(x)
    for n, x in tiny.arrays(trained / 'own').items()
    if n.startswith(name)
  }
  blueprint = tiny.blueprint(specs['own'], trained / 'own', trained)
  plain = blueprint.learners['student'].model.plain
  shapes = {
    n: x.shape for n, x in tiny.checkpoint.by_name(plain.params).items()
  }
  shapes |= {n: x.shape for n, x in own.items()}
  found = read_lora_file(to, 'sd3', shapes, SCALE)
  assert found.keys() == own.keys()
  for path, array in own.items():
    np.testing.assert_allclose(found[path], array, rtol=1e-6)
  assert not list(pathlib.Path(tmp_path).glob('*.part'))
