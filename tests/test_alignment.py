"""Features of latents from the name in a config to the metrics of a run."""

import ast
import json
import pathlib
import shutil

import numpy as np
import pytest
from flax import nnx
from jobs import hosts, tiny

import flowdistill
from flowdistill.build.foreign import file_model, read_weights
from flowdistill.config.bind import ConfigError
from flowdistill.networks.shapes_kl_features import WEIGHTS, ShapesKLFeatures
from flowdistill.networks.shipped_weights import digest, load_weights
from flowdistill.training.named_arrays import by_name

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {'width': 8, 'ch_mult': (1, 1), 'res_blocks': 1, 'attention': 0}
CONFIG = f"""
from ml_collections import ConfigDict

def get_config(arg=''):
  return ConfigDict({{
    'dataset': {{'name': 'shapes', 'examples': 8}},
    'space': 'shapes_kl',
    'network': {{'name': 'unet', 'features': 16, **{SMALL}}},
    'objective': {{'name': 'rectified_flow', 'alignment': 100.0}},
    'frozen': {{'features': 'shapes_kl'}},
    'train': {{'batch_size': 2, 'steps': 2}},
    'log': {{'every': {{'steps': 1}}}},
  }}, sort_keys=False)
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  path = tmp_path_factory.mktemp('aligned') / 'config.py'
  path.write_text(CONFIG)
  return path


def test_a_name_becomes_the_weights_that_ship():
  found = by_name(read_weights('features', 'shapes_kl'))
  assert set(found) == set(by_name(file_model('features').params))
  shipped = load_weights(lambda: ShapesKLFeatures(rngs=nnx.Rngs(0)), WEIGHTS)
  for name, array in by_name(nnx.state(shipped)).items():
    np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_run_with_them_trains_its_projector_and_samples(config, tmp_path):
  (blueprint,) = tiny.check_here(tiny.stages(config), tmp_path).values()
  before = by_name(blueprint.init('student'))
  tiny.train_here(tmp_path, config)
  rows = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  last = json.loads(rows[-1])
  assert -1 < last['similarity'] < 1
  assert np.isfinite(last['loss'])
  made = json.loads((tmp_path / 'config.json').read_text())
  origin = f'shapes_kl of sha256 {digest(WEIGHTS)}'
  assert made['references']['features'] == origin
  run = flowdistill.load(tmp_path, weights='params')
  assert run.sample(2, nfe=1).shape == (2, 32, 32, 3)
  after = by_name(run.models['student'].params)
  own = [name for name in before if name.startswith('projector')]
  assert len(own) == 6
  assert all((after[name] != before[name]).any() for name in own)


def ended(workdir, config, devices, *more):
  """Trains four steps in a process of its own; returns what it says."""
  steps = ('--config.train.steps=4', '--config.checkpoint.every=2')
  process = hosts.start(workdir, config, devices, *steps, *more)
  output, errors = process.communicate(timeout=240)
  assert process.returncode == 0, errors
  return output


@pytest.mark.slow
def test_continued_or_on_four_devices_it_is_the_same(config, tmp_path):
  one, again, four = (tmp_path / name for name in ('one', 'again', 'four'))
  batch = '--config.train.batch_size=4'
  ended(one, config, 1, batch)
  shutil.copytree(one, again)
  shutil.rmtree(again / 'checkpoints' / '4')
  assert 'continues at step 2' in ended(again, config, 1, batch)
  tiny.assert_same_bytes(tiny.arrays(again), tiny.arrays(one))
  mesh = ('--config.mesh.data=2', '--config.mesh.fsdp=2')
  ended(four, config, 4, batch, *mesh)
  ours, theirs = tiny.arrays(one), tiny.arrays(four)
  for name, array in ours.items():
    np.testing.assert_allclose(array, theirs[name], rtol=1e-3, atol=1e-4)


def test_the_config_of_the_documentation_is_accepted(config, tmp_path):
  text = (ROOT / 'docs' / 'objectives.md').read_text('utf-8')
  (block,) = (b for b in text.split('```') if b.startswith("python\n'network'"))
  keys = ast.literal_eval('{' + block.removeprefix('python') + '}')
  small = {**SMALL, **keys.pop('network')}
  own = [f'{key}={value}' for key, value in {**keys, 'network': small}.items()]
  assert tiny.check_here(tiny.stages(config, *own), tmp_path)


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['frozen={}'],
      'objective: this objective asks for nets.features, and the config fills '
      "only ['student']: set 'frozen.features' to 'shapes_kl', for the latents",
    ),
    (
      ['frozen.features=shapes_lk'],
      "frozen.features: 'shapes_lk' must be a space whose features ship; did "
      "you mean 'shapes_kl'?",
    ),
    (
      ["space={'name': 'patch_dct', 'patch': 2}"],
      "frozen.features = 'shapes_kl' must be features of the latents of "
      "config.space, 'patch_dct'",
    ),
    (
      ['objective.alignment=0'],
      'network.features = 16 has no effect: the objective has no alignment',
    ),
    (
      ['objective.alignment=0', 'network.features=0'],
      'frozen.features has no effect: the objective calls only',
    ),
    (
      ['objective.alignment=-1'],
      'objective.alignment = -1.0 must be at least 0',
    ),
    (
      ['network.features=0'],
      'objective: network.features = 0 must be the width of the features',
    ),
    (
      ['network.features=8'],
      'objective: the features of network.features = 8 have the shape '
      '[8, 8, 8], and must have that of frozen.features, [8, 8, 16]',
    ),
    (
      ['network.ch_mult=(1, 1, 1)'],
      'objective: the features of network.features = 16 have the shape '
      '[4, 4, 16], and must have that of frozen.features, [8, 8, 16]',
    ),
    (
      ["network={'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2}"],
      "objective: network.name must be 'unet', of which a hidden layer can be",
    ),
  ],
)
def test_what_is_wrong_is_said_before_training(
  config, tmp_path, overrides, message
):
  with pytest.raises(ConfigError) as error:
    tiny.check_here(tiny.stages(config, *overrides), tmp_path)
  assert str(error.value).startswith(f'config.{message}')
