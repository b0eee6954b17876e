"""A sequence whose items are made when they are asked for."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Lazy(Generic[T]):
  """Items by number; iterating ends.

  Attributes:
    length: how many there are.
    make: number in 0 ... length − 1 -> item.
  """

  length: int
  make: Callable[[int], T]

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, index: Any) -> T:
    """Item `index`, from the end if it is negative; IndexError beyond."""
    return self.make(int(places(index, self.length)))

  def __iter__(self) -> Iterator[T]:
    return map(self.make, range(self.length))


def places(index: Any, length: int) -> np.ndarray:
  """An int, a slice or an array of ints [b] as numbers int64 [] or [b].

  Raises:
    IndexError: for one that does not exist, or what is no index.
  """
  if isinstance(index, slice):
    return np.arange(*index.indices(length))
  found = np.asarray(index)
  if found.dtype.kind not in 'iu' or found.ndim > 1:
    raise IndexError(f'{index!r} must be an integer, or integers [b]')
  if found.size and not (-length <= found.min() and found.max() < length):
    raise IndexError(f'{index!r} must lie in 0 ... {length - 1}')
  return np.where(found < 0, found + length, found).astype(np.int64)
