"""A distillation of digits that becomes adversarial after its second step."""

from ml_collections import ConfigDict


def get_config(arg=''):
  del arg
  return ConfigDict(
    {
      'dataset': {'name': 'digits', 'size': 8},
      'network': {'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2},
      'train': {'steps': 8, 'batch_size': 8},
      'log': {'every': 1},
      'checkpoint': {'every': 2, 'keep': 3},
      'objective': {
        'name': 'adversarial',
        'base': {'name': 'mean_flow'},
        'fakes': {'nfe': 2, 'gamma': 0.5},
      },
      'ema': {'main': {'decay': 0.9}},
      'roles': {
        'discriminator': {
          'network': {
            'name': 'stylegan2_discriminator',
            'channel_base': 32,
            'channel_max': 8,
          },
          'objective': {
            'name': 'relativistic',
            'penalty_every': 2,
            'fakes': {'nfe': 2, 'gamma': 0.5},
          },
          'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-3}},
          'ema': {'main': {'decay': 0.9}},
          'every': 2,
          'start': 2,
        }
      },
    },
    sort_keys=False,
  )
