"""Euclidean distances between all pairs of two sets, a block at a time.

‖a‖² + ‖b‖² − 2 a·b about a common centre. The rounding error is 1e-15 of
‖a‖² + ‖b‖²; squares below `EQUAL` of that are rounding, and 0.
"""

from collections.abc import Iterator

import numpy as np

from flowdistill.metrics.blocks import across, check_lengths, within

EQUAL = 1e-13
Block = tuple[slice, slice, np.ndarray]


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[Block]:
  """‖a_i − b_j‖² for a [n, d] and b [m, d]: yields (i, j, block [i, j]).

  Raises:
    ValueError: if a and b differ in d.
  """
  check_lengths(a, b)
  centre = b.mean(axis=0, dtype=np.float64)
  for i, j, x, y in across(a, b):
    yield i, j, _squared(x - centre, y - centre)


def squared_within(a: np.ndarray, *, itself: float) -> Iterator[Block]:
  """The same of a with itself, for blocks with i <= j: the others mirror them.

  Args:
    a: [n, d].
    itself: what stands for the distance of an example to itself.
  """
  centre = a.mean(axis=0, dtype=np.float64)
  for i, j, x, y in within(a):
    squared = _squared(x - centre, y - centre)
    if i == j:
      np.fill_diagonal(squared, itself)
    yield i, j, squared


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  norms = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
  squared = norms - 2 * (x @ y.T)
  squared[squared < EQUAL * norms] = 0
  return squared
