"""Normal noise in place of images, to measure how fast a network trains."""

import numpy as np

from flowdistill.datasets.source import Source
from flowdistill.datasets.split import split_indices
from flowdistill.flow.spec import DataSpec

SEED = 0


def noise(
  *,
  split: str = 'all',
  size: int = 256,
  shape: tuple[int, ...] = (32, 32, 4),
  classes: int = 1000,
) -> Source:
  """Standard normal arrays, with labels at random.

  Args:
    split: 'all', 'train' or 'validation' (see `split.py`).
    size: number of examples, at least 1.
    shape: of an example, each at least 1.
    classes: number of labels; 0 gives none.

  Raises:
    ValueError: if an option is out of range.
  """
  if size < 1:
    raise ValueError(f'size = {size} must be at least 1')
  if not shape or min(shape) < 1:
    raise ValueError(f'shape = {shape} must be lengths, each at least 1')
  if classes < 0:
    raise ValueError(f'classes = {classes} must be at least 0')
  rng = np.random.default_rng(SEED)
  arrays: dict[str, np.ndarray] = {}
  arrays['x0'] = rng.standard_normal((size, *shape), np.float32)
  if classes:
    arrays['label'] = rng.integers(classes, size=size, dtype=np.int32)
  source = Source(DataSpec.labelled(shape, classes), arrays)
  return source.take(split_indices(size, split))
