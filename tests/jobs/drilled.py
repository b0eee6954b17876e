"""The run that is disturbed by the drill: small, and it does all that one does.

It measures and saves so often that a fault at any moment hits something.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
  del arg
  energy = {
    'name': 'energy',
    'samples': 32,
    'sweep': {'student': [['euler', 1], ['heun', 3]]},
  }
  return ConfigDict(
    {
      'dataset': 'moons',
      'network': {'name': 'mlp', 'width': 16, 'depth': 1},
      'objective': {'name': 'rectified_flow'},
      'train': {'steps': 60, 'batch_size': 16},
      'ema': {'main': {'half_life': {'steps': 14}}},
      'checkpoint': {'every': 3, 'keep': 3},
      'log': {'every': 1},
      'evaluators': {'energy': energy},
      'evaluation': {'every': 5, 'batch_size': 32},
      'hosts': {'timeout': 6},
    },
    sort_keys=False,
  )
