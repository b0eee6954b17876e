"""Normal noise in place of images, to measure how fast a network trains."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from flowdistill.datasets.source import Source
from flowdistill.datasets.split import split_indices
from flowdistill.flow.spec import Condition, DataSpec

SEED = 0
NONE: Mapping[str, tuple[int, ...]] = MappingProxyType({})


def noise(
  *,
  split: str = 'all',
  size: int = 256,
  shape: tuple[int, ...] = (32, 32, 4),
  classes: int = 1000,
  conditions: Mapping[str, tuple[int, ...]] = NONE,
) -> Source:
  """Standard normal arrays, with labels at random.

  Args:
    split: 'all', 'train' or 'validation' (see `split.py`).
    size: number of examples, at least 1.
    shape: of an example, each at least 1.
    classes: number of labels; 0 gives none.
    conditions: name -> shape of further ones, such as `text` and `pooled`,
      which are noise too; their null is 0.

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
  x0 = rng.standard_normal((size, *shape), np.float32)
  arrays: dict[str, np.ndarray] = {'x0': x0}
  if classes:
    arrays['label'] = rng.integers(classes, size=size, dtype=np.int32)
  spec = DataSpec.labelled(shape, classes)
  for name, own in conditions.items():
    if name in arrays or not own or min(own) < 1:
      raise ValueError(
        f'conditions[{name!r}] = {own} must be lengths, each at least 1, of a '
        'condition with another name than x0 and label'
      )
    arrays[name] = rng.standard_normal((size, *own), np.float32)
  more = {name: Condition(tuple(own)) for name, own in conditions.items()}
  source = Source(DataSpec(spec.shape, {**spec.cond, **more}), arrays)
  return source.take(split_indices(size, split))
