"""LPIPS from a file in the config to a callable of the compiled step."""

import json
import types

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jobs import tiny

import flowdistill
from flowdistill.build.foreign import file_model, read_weights
from flowdistill.config.bind import ConfigError
from flowdistill.convert import lpips
from flowdistill.networks.lpips import LPIPS
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.named_arrays import by_name
from flowdistill.training.roles import Learning, Role, make_nets
from flowdistill.training.state import init_state
from flowdistill.workdir import weights

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  return ConfigDict({
    'dataset': 'digits',
    'network': {'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2},
    'train': {'batch_size': 1, 'steps': 1},
    'log': {'every': {'steps': 1}},
    'stages': {
      'flow': {'objective': 'rectified_flow'},
      'distil': {
        'objective': {
          'name': 'distillation',
          'distance': ('l1', 'lpips'),
          'resize': 16,
          'regulariser': 0.0,
          'solver_steps': 1,
        },
        'frozen': {'teacher': 'stage:flow', 'perceptual': 'FILE'},
      },
    },
  }, sort_keys=False)
"""


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """A folder with a config, the weights that it names, and bad ones."""
  folder = tmp_path_factory.mktemp('perceptual')
  rng = np.random.default_rng(0)
  net = nnx.eval_shape(lambda: LPIPS(rngs=nnx.Rngs(0)))
  arrays = lpips.to_torch(
    {
      name: 0.05 * rng.standard_normal(leaf.shape, np.float32)
      for name, leaf in by_name(nnx.state(net)).items()
    },
    'torchvision',
  )
  np.savez(folder / 'vgg.npz', **arrays)
  np.savez(folder / 'short.npz', **{'features.0.bias': np.ones(64)})
  (folder / 'config.py').write_text(
    CONFIG.replace('FILE', str(folder / 'vgg.npz'))
  )
  return folder


def test_a_file_becomes_the_parameters_of_the_network(files):
  params = read_weights('perceptual', str(files / 'vgg.npz'))
  arrays = np.load(files / 'vgg.npz')
  found = by_name(params)
  assert set(found) == set(by_name(file_model('perceptual').params))
  kernel = arrays['features.28.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(found['convs.12.kernel'], kernel)


def test_an_objective_gets_a_distance_of_its_frozen_weights():
  def apply(params, x, y, resize):
    return params * (x - y) + resize

  model = types.SimpleNamespace(apply=apply)
  learns = Learning(lambda *_: None, optax.sgd(0.1))
  roles = {
    'student': Role(model, learns=learns),
    'perceptual': Role(model, 'distance', base='perceptual'),
  }
  state = init_state(roles, {'student': np.ones(2)})
  frozen, key = {'perceptual': 3.0}, jax.random.key(0)
  nets = make_nets('student', np.ones(2), state, frozen, roles, key)
  assert nets.perceptual(7.0, 5.0, 16) == 22.0


@pytest.mark.slow
def test_the_weights_are_an_argument_of_the_compiled_loss(files):
  """Where all are 0, all images are equal, and l1 alone is left."""
  options = ['solver_steps=0', 'resize=16']
  options = [f'stages.distil.objective.{option}' for option in options]
  spec = tiny.stages(files / 'config.py', *options)['distil']
  specs = tiny.stages(files / 'config.py')
  blueprint = Blueprints({**specs, 'distil': spec}, files)['distil']
  assert blueprint.drawable == ['student', 'teacher']
  given = blueprint.weights('perceptual')
  loaded, key = weights.load('perceptual', given), jax.random.key(0)
  params = {'student': blueprint.init('student')}
  state = init_state(blueprint.learners, params)
  roles = {n: r for n, r in blueprint.roles.items() if n != 'teacher'}
  batch = blueprint.sees.batch(blueprint.data[:1])
  batch['x1'] = np.ones((1, 8, 8, 1), np.float32)

  @jax.jit
  def loss(state, frozen):
    params = state.roles['student'].params
    nets = make_nets('student', params, state, frozen, roles, key)
    return blueprint.stage.objective(nets, batch, key, state.step)[0]

  found = loss(state, {'perceptual': loaded.params})
  dead = jax.tree.map(np.zeros_like, loaded.params)
  l1 = np.mean(np.abs(batch['x1'] - batch['x0']))  # a fresh network has u = 0
  np.testing.assert_allclose(loss(state, {'perceptual': dead}), l1, rtol=1e-5)
  assert found > l1 + 1e-3


@pytest.mark.slow
def test_a_run_with_it_trains_and_loads(files, tmp_path):
  tiny.train_here(tmp_path, files / 'config.py')
  rows = (tmp_path / 'distil' / 'metrics.jsonl').read_text().splitlines()
  assert np.isfinite(json.loads(rows[-1])['loss'])
  made = json.loads((tmp_path / 'distil' / 'config.json').read_text())
  assert made['references']['perceptual'].startswith(str(files / 'vgg.npz'))
  run = flowdistill.load(tmp_path)
  weights = jax.tree.leaves(run.models['perceptual'].params)
  assert sum(w.size for w in weights) == 14_714_688 + 1_472


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      "frozen={'teacher': 'stage:flow'}",
      'objective: this objective asks for nets.perceptual, and the config '
      "fills only ['student', 'teacher']: set 'frozen.perceptual' to a file of "
      'LPIPS weights, .safetensors, .npz or .pth',
    ),
    (
      'frozen.perceptual=stage:flow',
      'frozen.perceptual: there is no file stage:flow',
    ),
    (
      'frozen.perceptual=vgg.pth',
      'frozen.perceptual: there is no file vgg.pth',
    ),
    (
      'frozen.perceptual=nowhere.npz',
      'frozen.perceptual: there is no file nowhere.npz',
    ),
    (
      'frozen.perceptual=HERE/short.npz',
      'frozen.perceptual: HERE/short.npz: these weights of LPIPS have no '
      'features.0.weight or '
      'net.slice1.0.weight',
    ),
    (
      'frozen.perceptual.weights=params',
      "frozen.perceptual.weights = 'params' has no effect",
    ),
    (
      'frozen.teacher=HERE/vgg.npz',
      'frozen.teacher: HERE/vgg.npz must be the folder of a run',
    ),
    (
      "objective.distance=('l1',)",
      'frozen.perceptual has no effect: the objective calls only',
    ),
    ('objective.distance=()', 'objective.distance = () must name one or more'),
    ('objective.resize=8', 'objective.resize = 8 gives VGG16 images of size 8'),
    (
      'objective.resize=none',
      'objective.resize = None gives VGG16 images of size 8',
    ),
    (
      'objective.solver_steps=0',
      'objective.solver_steps = 0 needs pairs: batches with x1',
    ),
  ],
)
def test_what_is_wrong_is_said_before_training(
  files, tmp_path, override, message
):
  here = str(files)
  override = f'stages.distil.{override.replace("HERE", here)}'
  expected = f'config.stages.distil.{message.replace("HERE", here)}'
  with pytest.raises(ConfigError) as error:
    stages = tiny.stages(files / 'config.py', override)
    tiny.check_here(stages, tmp_path)
  assert str(error.value).startswith(expected)
