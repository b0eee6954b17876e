"""Euclidean distances between all pairs of two sets, a block at a time."""

from collections.abc import Iterator

import numpy as np

BLOCK = 1024


def rows(x: np.ndarray) -> np.ndarray:
  """Examples [n, ...] as float64 [n, d].

  Raises:
    ValueError: if there are no examples, or a value is not finite.
  """
  x = np.asarray(x, np.float64)
  if x.ndim < 2 or not x.size:
    raise ValueError(f'examples [n, ...] with n >= 1 needed, got {x.shape}')
  if not np.isfinite(x).all():
    raise ValueError('the examples must be finite')
  return x.reshape(len(x), -1)


def squared_distances(
  a: np.ndarray, b: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
  """‖a_i − b_j‖² for a [n, d] and b [m, d]: yields (first i, block [k, m]).

  ‖a‖² + ‖b‖² − 2 a·b about a common centre. The error, 1e-15 of the largest
  square, matters only for the distance between two points that coincide.

  Raises:
    ValueError: if a and b differ in d.
  """
  if a.shape[1] != b.shape[1]:
    raise ValueError(f'examples of one shape needed, got {a.shape}, {b.shape}')
  centre = b.mean(axis=0)
  a, b = a - centre, b - centre
  norm_a, norm_b = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
  for i in range(0, len(a), BLOCK):
    block = norm_a[i : i + BLOCK, None] + norm_b - 2 * a[i : i + BLOCK] @ b.T
    yield i, np.maximum(block, 0)
