"""Configs of one stage and of two."""

ONE = {
  'dataset': 'moons',
  'network': {'name': 'mlp', 'width': 64},
  'objective': 'rectified_flow',
  'train': {'steps': 10},
}
TWO = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 64},
  'optim': {'schedule': {'name': 'cosine', 'warmup': {'epochs': 1}}},
  'train': {'batch_size': 32},
  'stages': {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 10}},
    'distil': {
      'frozen': {'teacher': 'stage:flow'},
      'objective': {'name': 'ayf_emd', 'max_r': 0.5},
      'train': {'steps': 20},
      'optim': {'schedule': {'learning_rate': 0.1}},
      'evaluators': {'energy': 'energy'},
    },
  },
}
