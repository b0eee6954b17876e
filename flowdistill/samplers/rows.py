"""Batches of one fixed shape: after the last row, that row is repeated."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np


def indices(n: int, size: int) -> Iterator[np.ndarray]:
  """0 .. n − 1 in batches [size]; the last one goes on beyond n.

  Raises:
    ValueError: if n is not positive.
  """
  if n < 1:
    raise ValueError(f'n = {n} must be at least 1')
  for start in range(0, n, size):
    yield np.arange(start, start + size)


def take(tree: Any, index: np.ndarray) -> Any:
  """The rows `index` of every array of a tree."""
  return jax.tree.map(
    lambda rows: np.asarray(rows)[np.minimum(index, len(rows) - 1)], tree
  )


def check(n: int, **groups: Mapping[str, Any]) -> None:
  """Checks that every array has n rows.

  Raises:
    ValueError: naming one that does not.
  """
  for group, arrays in groups.items():
    for name, rows in arrays.items():
      if len(rows) != n:
        raise ValueError(
          f'{group}[{name!r}] has {len(rows)} rows; it must have n = {n}'
        )
