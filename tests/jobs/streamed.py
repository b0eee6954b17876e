"""Points that come in an order of their own, without an index."""

import dataclasses
import itertools

import numpy as np

from flowdistill.datasets import DATASETS
from flowdistill.flow.spec import DataSpec


@dataclasses.dataclass
class Points:
  """Batch k is a function of (seed, k)."""

  num_samples: int | None
  spec: DataSpec = dataclasses.field(default_factory=lambda: DataSpec((2,)))

  def batches(self, batch_size, /, *, seed, start, process):
    index, count = process
    rows = batch_size // count
    for k in itertools.count(start):
      x0 = np.random.default_rng([seed, k]).normal(size=(batch_size, 2))
      yield {'x0': x0[index * rows : (index + 1) * rows].astype(np.float32)}


def streamed(*, num_samples: int | None = None):
  """A stream; `num_samples` is the length of an epoch."""
  return Points(num_samples)


def get_config(arg=''):
  del arg
  DATASETS.setdefault('streamed', streamed)
  return {
    'dataset': 'streamed',
    'network': {'name': 'mlp', 'width': 16, 'depth': 1},
    'objective': 'rectified_flow',
    'train': {'steps': 9, 'batch_size': 8},
    'optim': {'schedule': 'constant'},
    'checkpoint': {'every': 3},
    'log': {'every': 1},
  }
