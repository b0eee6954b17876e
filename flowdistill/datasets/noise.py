"""Normal noise in place of images, to measure how fast a network trains.

An example is drawn when it is asked for, so that there may be as many as a real
data set has.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from flowdistill.datasets.lazy import places
from flowdistill.datasets.source import Batch
from flowdistill.datasets.split import split_indices
from flowdistill.flow.spec import LABEL, Condition, DataSpec

SEED = 0
NONE: Mapping[str, tuple[int, ...]] = MappingProxyType({})


def noise(
  *,
  split: str = 'all',
  size: int = 256,
  shape: tuple[int, ...] = (32, 32, 4),
  classes: int = 1000,
  conditions: Mapping[str, tuple[int, ...]] = NONE,
) -> 'Noise':
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
  spec = DataSpec.labelled(shape, classes)
  for name, own in conditions.items():
    if name in ('x0', LABEL) or not own or min(own) < 1:
      raise ValueError(
        f'conditions[{name!r}] = {own} must be lengths, each at least 1, of a '
        'condition with another name than x0 and label'
      )
  more = {name: Condition(tuple(own)) for name, own in conditions.items()}
  spec = DataSpec(spec.shape, {**spec.cond, **more})
  return Noise(spec, split_indices(size, split))


@dataclasses.dataclass(frozen=True, eq=False)
class Noise:
  """Noise with random access.

  Attributes:
    spec: of an example.
    numbers: of the examples, int [n]; an example is a function of its number.
  """

  spec: DataSpec
  numbers: np.ndarray

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, index: Any) -> Batch:
    """One example for an int, a batch of them for an array of ints [b]."""
    x0 = self._normal(index, 0, self.spec.shape)
    return {'x0': x0, **self.conditions(index)}

  def conditions(self, index: Any) -> Batch:
    """The conditions of the examples `index` [b]."""
    return {
      name: self._labels(index, k)
      if name == LABEL
      else self._normal(index, k, condition.shape)
      for k, (name, condition) in enumerate(self.spec.cond.items(), 1)
    }

  def _normal(
    self, index: Any, part: int, shape: tuple[int, ...]
  ) -> np.ndarray:
    numbers = self.numbers[places(index, len(self))]
    x = np.empty((numbers.size, *shape), np.float32)
    for row, number in zip(x, numbers.flat, strict=True):
      rng = np.random.default_rng((SEED, part, number))
      rng.standard_normal(dtype=np.float32, out=row)
    return x.reshape(*numbers.shape, *shape)

  def _labels(self, index: Any, part: int) -> np.ndarray:
    numbers = self.numbers[places(index, len(self))]
    labels = [
      np.random.default_rng((SEED, part, number)).integers(
        self.spec.num_classes
      )
      for number in numbers.flat
    ]
    return np.reshape(np.asarray(labels, np.int32), numbers.shape)
