"""A space that is not the identity: networks see it, people see pictures."""

import json

import numpy as np
import pytest
from jobs import tiny

import flowdistill
from flowdistill.autoencoders import patch_dct
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.digits import digits
from flowdistill.datasets.pairs import open_store
from flowdistill.stages.assembly import batches, generators, sampled
from flowdistill.stages.blueprints import Blueprints

CONFIG = """
def get_config(arg=''):
  flow = {'objective': 'rectified_flow'}
  return {
    'dataset': 'digits',
    'space': {'name': 'patch_dct', 'patch': 4, 'scale': 0.5},
    'network': {'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2, 'patch': 1},
    'train': {'steps': 3, 'batch_size': 16},
    'log': {'every': 1},
    'evaluation': {'batch_size': 16, 'features': 'digits'},
    'stages': {
      'flow': {
        **flow,
        'evaluators': {
          'few_step': {
            'name': 'few_step',
            'samples': 32,
            'sweep': {'student': [['euler', 2]]},
          },
          'pictures': {
            'name': 'pictures', 'sweep': {'student': [['euler', 2]]},
          },
          'loss': {'name': 'flow_loss', 'samples': 32},
          'paths': {'name': 'paths', 'samples': 8, 'steps': 4},
        },
      },
      'pairs': {
        'job': 'pairs',
        'teacher': 'stage:flow',
        'direction': 'from_data',
        'count': 20,
        'sampler': 'heun',
        'nfe': 40,
        'batch_size': 10,
      },
      'reflow': {
        'objective': {'name': 'rectified_flow', 'coupling': 'paired'},
        'pairs': 'stage:pairs',
        'init_from': 'stage:flow',
        'evaluation': {'features': None},
      },
    },
  }
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('space')
  (folder / 'config.py').write_text(CONFIG)
  tiny.train_here(folder / 'run', folder / 'config.py')
  return folder / 'config.py', folder / 'run'


def space():
  return patch_dct((8, 8, 1), patch=4, scale=0.5)


def test_batches_are_in_the_space(run):
  spec = tiny.stages(run[0])['flow']
  assembly = tiny.assembled(spec, run[1] / 'again', run[1])
  batch = next(batches(assembly, 0))
  assert batch['x0'].shape == (16, 2, 2, 16)
  pixels = np.asarray(space().decode(batch['x0']))
  source = digits()
  distances = np.abs(pixels[:1] - source.arrays['x0']).max((1, 2, 3))
  assert distances.min() < 1e-5


def test_pictures_are_drawn_and_measured(run):
  loaded = flowdistill.load(run[1], stage='flow')
  x = loaded.sample(4, sampler='euler', nfe=2, label=3)
  assert x.shape == (4, 8, 8, 1)
  rows = json.loads((run[1] / 'flow' / 'results.json').read_text())
  assert {'frechet_digits', 'flow_loss', 'straightness'} <= {
    key for row in rows for key in row
  }
  back = loaded.encode(x, sampler='rk4', nfe=64, label=3)
  assert back.shape == (4, 2, 2, 16)


def test_a_model_answers_in_the_space_and_draws_pictures(run):
  blueprints = Blueprints(tiny.stages(run[0]), run[1])
  assembly = tiny.assembled(blueprints.specs['flow'], run[1] / 'flow', run[1])
  del blueprints
  from flowdistill.stages.assembly import abstract_state
  from flowdistill.training import checkpoint

  state = checkpoint.restore(
    run[1] / 'flow' / 'checkpoints', abstract_state(assembly)
  )
  model = generators(assembly, sampled(assembly, state))['student']
  x0 = digits().arrays['x0'][:4]
  z = model.to_space(x0)
  np.testing.assert_allclose(z, space().encode(x0), atol=1e-6)
  np.testing.assert_allclose(model.to_pictures(z), x0, atol=1e-5)
  t, cond = np.full(4, 0.5), {'label': np.zeros(4, np.int32)}
  assert model.ask(z, t, t, cond).shape == z.shape


def test_pairs_see_the_space(run):
  pairs = open_store(run[1] / 'pairs' / 'pairs')
  assert pairs.spec.shape == (2, 2, 16)
  rows = pairs[np.arange(20)]
  expected = space().encode(digits()[np.arange(20)]['x0'])
  np.testing.assert_allclose(rows['x0'], expected, atol=1e-6)
  assert rows['x1'].shape == rows['x0'].shape


def test_another_space_is_refused(run):
  """Its examples have another shape than those that the teacher knows."""
  stages = tiny.stages(run[0], 'stages.pairs.space.patch=2')
  with pytest.raises(ConfigError, match='knows examples'):
    tiny.check_here(stages, run[1])
