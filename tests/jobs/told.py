"""Digits by their captions, whose words a small transformer reads.

A teacher, a student with a fixed guidance, pairs and their reflow.
"""

from ml_collections import ConfigDict


def get_config(arg=''):
  del arg
  guided = {'guidance': {'name': 'fixed', 'scale': 1.5}, 'against': 'null'}
  sweep = {'student': [['flow_map', 1]]}
  prompts = ('the digit three', 'the digit nine')
  held_out = {'name': 'digits', 'text': 'words', 'split': 'validation'}
  return ConfigDict(
    {
      'dataset': {**held_out, 'split': 'train'},
      'network': {'name': 'mmdit', 'width': 16, 'depth': 2, 'heads': 2},
      'train': {'steps': 3, 'batch_size': 16, 'drop_cond': 0.25},
      'checkpoint': {'every': 2},
      'log': {'every': 1},
      'stages': {
        'flow': {
          'objective': 'rectified_flow',
          'optim': {'accumulate': 2},
        },
        'distil': {
          'init_from': 'stage:flow',
          'frozen': {'teacher': 'stage:flow'},
          'objective': {'name': 'ayf_emd', 'warmup_steps': 4, **guided},
          'train': {'batch_size': 1},
          'evaluation': {'batch_size': 8, 'dataset': held_out},
          'evaluators': {
            'pictures': {
              'name': 'pictures',
              'sweep': sweep,
              'prompts': prompts,
            },
            'loss': {'name': 'flow_loss', 'samples': 16},
          },
        },
        'pairs': {
          'job': 'pairs',
          'teacher': 'stage:flow',
          'count': 20,
          'sampler': 'heun',
          'nfe': 3,
          'batch_size': 8,
          'shard_size': 16,
        },
        'reflow': {
          'pairs': 'stage:pairs',
          'init_from': 'stage:flow',
          'objective': {'name': 'rectified_flow', 'coupling': 'paired'},
        },
      },
    },
    sort_keys=False,
  )
