"""Sources with random access, and the one that is a table in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from flowdistill.flow.spec import DataSpec

Batch = dict[str, np.ndarray]


class RandomAccess(Protocol):
  """Examples by index, in an order that the pipeline chooses.

  `source[index]` has `x0` float32, every condition of the spec, and whatever
  else an example has: one example for an int, a batch for an array of ints [b].
  `conditions(index)` has the conditions only, and decodes no picture.
  """

  @property
  def spec(self) -> DataSpec: ...
  def __len__(self) -> int: ...
  def __getitem__(self, index: Any, /) -> Batch: ...
  def conditions(self, index: Any, /) -> Batch: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """Examples in memory.

  Attributes:
    spec: of an example.
    arrays: `x0` float32 [n, *shape], every condition of the spec
      [n, *its shape], and whatever else an example has, each [n, ...].

  Raises:
    ValueError: if the arrays do not have these shapes and dtypes.
  """

  spec: DataSpec
  arrays: Mapping[str, np.ndarray]

  def __post_init__(self) -> None:
    n = len(self.arrays.get('x0', ()))
    if not n:
      raise ValueError('source: x0 must be an array of at least one example')
    check_arrays(self.spec, self.arrays, n, 'source')

  def __len__(self) -> int:
    return len(self.arrays['x0'])

  def __getitem__(self, index: Any) -> Batch:
    """One example for an int, a batch of them for an array of ints [b]."""
    return {name: array[index] for name, array in self.arrays.items()}

  def conditions(self, index: Any) -> Batch:
    """The conditions of the examples `index` [b]."""
    return {name: self.arrays[name][index] for name in self.spec.cond}

  def take(self, index: np.ndarray) -> 'Source':
    """The source of the examples `index` [m]."""
    return dataclasses.replace(self, arrays=self[index])


def check_arrays(
  spec: DataSpec, arrays: Mapping[str, np.ndarray], n: int, title: str
) -> None:
  """Raises ValueError unless the arrays are n examples of a spec.

  Args:
    spec: of an example.
    arrays: by name; those that the spec does not know only have to be [n, ...].
    n: number of examples.
    title: of the arrays, for the message.
  """
  expected = {'x0': f'float32 {[n, *spec.shape]}'}
  for name, condition in spec.cond.items():
    expected[name] = f'{condition.dtype} {[n, *condition.shape]}'
  for name, wanted in expected.items():
    if name not in arrays:
      raise ValueError(f'{title}: {name} is missing; it must be {wanted}')
  for name, array in arrays.items():
    kind = f'{array.dtype} {[*array.shape]}'
    if kind != expected.get(name, kind) or len(array) != n:
      wanted = expected.get(name, f'[{n}, ...]')
      raise ValueError(f'{title}: {name} = {kind} must be {wanted}')
