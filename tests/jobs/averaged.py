"""A small run with two EMAs of kind power, and snapshots of them."""

from ml_collections import ConfigDict

from flowdistill.config import choose

TRACKED = {'main': {'sigma_rel': 0.05}, 'wide': {'sigma_rel': 0.1}}
MORE = {'narrow': {'sigma_rel': 0.04}, 'wider': {'sigma_rel': 0.15}}


def get_config(arg: str = '') -> ConfigDict:
  """'more' tracks further EMAs, to compare with: they change nothing else."""
  more = choose(arg, {'': {}, 'more': MORE})
  energy = {
    'name': 'energy',
    'samples': 32,
    'sweep': {'student': [['euler', 1]]},
  }
  return ConfigDict(
    {
      'dataset': 'moons',
      'network': {'name': 'mlp', 'width': 16, 'depth': 1},
      'objective': {'name': 'rectified_flow'},
      'optim': {'schedule': {'name': 'constant', 'learning_rate': 0.02}},
      'train': {'steps': 60, 'batch_size': 16},
      'ema': {**TRACKED, **more},
      'ema_snapshots': {'every': 5},
      'checkpoint': {'every': 20, 'keep': 2},
      'evaluators': {'energy': energy},
      'evaluation': {'batch_size': 32},
    },
    sort_keys=False,
  )
