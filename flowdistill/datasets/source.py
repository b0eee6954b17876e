"""A data set in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """Examples by index: `source[3]` is one, `source[[3, 5]]` a batch of two.

  Attributes:
    shape: of one example, without the batch axis.
    num_classes: 0 if the examples have no label.
    arrays: `x0` float32 [n, *shape], with classes `label` int32 [n] in
      [0, num_classes), and whatever else an example has, each [n, ...].

  Raises:
    ValueError: if the arrays are not of these shapes and types.
  """

  shape: tuple[int, ...]
  num_classes: int
  arrays: Mapping[str, np.ndarray]

  def __post_init__(self) -> None:
    n = len(self.arrays.get('x0', ()))
    expected = {'x0': f'float32 {[n, *self.shape]}'}
    if self.num_classes:
      expected['label'] = f'int32 {[n]}'
    found = {k: f'{a.dtype} {[*a.shape]}' for k, a in self.arrays.items()}
    same = all(len(array) == n for array in self.arrays.values())
    if n == 0 or not same or not expected.items() <= found.items():
      raise ValueError(
        f'a source of shape {self.shape} with {self.num_classes} classes '
        f'needs arrays {expected}, all of one length above 0, got {found}'
      )

  @property
  def labels(self) -> np.ndarray | None:
    """int32 [n], None without classes."""
    return self.arrays['label'] if self.num_classes else None

  def __len__(self) -> int:
    return len(self.arrays['x0'])

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    return {name: array[index] for name, array in self.arrays.items()}

  def take(self, index: np.ndarray) -> 'Source':
    """The source of the examples `index` [m]."""
    return dataclasses.replace(self, arrays=self[index])
