"""Captioned pictures of 8 x 8 in files, by a tiny transformer of text.

The data set is an override.
"""

from ml_collections import ConfigDict


def get_config(arg=''):
  del arg
  return ConfigDict(
    {
      'dataset': 'digits',
      'network': {
        'name': 'mmdit',
        'width': 16,
        'depth': 1,
        'heads': 2,
        'text_depth': 1,
      },
      'objective': 'rectified_flow',
      'train': {'steps': 1, 'batch_size': 4, 'drop_cond': 0.25},
      'optim': {'schedule': 'constant'},
      'log': {'every': 1},
    },
    sort_keys=False,
  )
