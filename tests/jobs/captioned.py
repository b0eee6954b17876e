"""Pictures with captions: 7 vectors and a mask say what is in each.

A caption of one or two words names bright rows of a picture of 4 x 4; its other
vectors are noise, which the mask hides. Reading this config puts the data set
into its table.
"""

import numpy as np
from ml_collections import ConfigDict

from flowdistill.datasets import DATASETS
from flowdistill.datasets.source import Source
from flowdistill.flow.spec import Condition, DataSpec

TOKENS, WIDTH, SIZE = 7, 6, 4
WORDS = np.random.default_rng(1).standard_normal((SIZE, WIDTH))
SPEC = DataSpec(
  (SIZE, SIZE, 1),
  {
    'text': Condition((TOKENS, WIDTH), 'float32', 0.0),
    'mask': Condition((TOKENS,), 'bool', False),
  },
)


def captioned(*, split: str = 'all', size: int = 256, seed: int = 0):
  """Examples `x0`, `text` and `mask`."""
  del split
  rng = np.random.default_rng(seed)
  rows, lengths = rng.integers(SIZE, size=(size, 2)), rng.integers(1, 3, size)
  mask = np.arange(TOKENS) < lengths[:, None]
  text = rng.standard_normal((size, TOKENS, WIDTH)).astype(np.float32)
  text[:, :2] = WORDS[rows]
  x0 = np.full((size, *SPEC.shape), -1, np.float32)
  for k in range(2):
    said = lengths > k
    x0[said, rows[said, k]] = 1
  x0 += 0.05 * rng.standard_normal(x0.shape).astype(np.float32)
  return Source(SPEC, {'x0': x0, 'text': text, 'mask': mask})


def get_config(arg=''):
  del arg
  DATASETS.setdefault('captioned', captioned)
  flow = {'objective': 'rectified_flow'}
  guided = {'guidance': {'name': 'fixed', 'scale': 1.5}, 'against': 'null'}
  distil = {
    'init_from': 'stage:flow',
    'frozen': {'teacher': 'stage:flow'},
    'objective': {'name': 'ayf_emd', 'warmup_steps': 4, **guided},
    'evaluators': {
      'pictures': {'name': 'pictures'},
      'loss': {'name': 'flow_loss', 'samples': 32},
    },
  }
  return ConfigDict(
    {
      'dataset': {'name': 'captioned', 'size': 64},
      'network': {'name': 'dit', 'width': 32, 'depth': 1, 'heads': 2},
      'train': {'steps': 8, 'batch_size': 16, 'drop_cond': 0.25},
      'ema': {'main': {'half_life': {'steps': 4}}},
      'checkpoint': {'every': 2},
      'log': {'every': 1},
      'evaluation': {'batch_size': 8},
      'stages': {
        'flow': flow,
        'distil': distil,
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
