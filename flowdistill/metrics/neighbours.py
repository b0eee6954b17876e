"""Nearest neighbours: does a model generate new images, or memorised ones?"""

import numpy as np

from flowdistill.metrics.blocks import blocks, rows
from flowdistill.metrics.distances import squared_distances


def nearest_distances(
  a: np.ndarray, b: np.ndarray, *, exclude_self: bool = False
) -> np.ndarray:
  """min_j ‖a_i − b_j‖ for a [n, ...] and b [m, ...] -> float64 [n].

  With `exclude_self`, for a = b, j = i is excluded.

  Raises:
    ValueError: if a or b is empty or not finite, their shapes differ, or no
      neighbour is left.
  """
  a, b = rows(a), rows(b)
  if exclude_self and (a.shape != b.shape or len(a) < 2):
    raise ValueError(
      'exclude_self needs the same set twice, of at least two examples, got '
      f'{len(a)} and {len(b)}'
    )
  nearest = _nearest(a, b, exclude_self)
  found = [np.linalg.norm(x - b[nearest[i]], axis=1) for i, x in blocks(a)]
  return np.concatenate(found)


def _nearest(a: np.ndarray, b: np.ndarray, exclude_self: bool) -> np.ndarray:
  """The index of the example of b that is nearest to each of a: [n]."""
  least, nearest = np.full(len(a), np.inf), np.zeros(len(a), int)
  for i, j, squared in squared_distances(a, b):
    if exclude_self and i == j:
      np.fill_diagonal(squared, np.inf)
    at = squared.argmin(axis=1)
    value = squared[np.arange(len(at)), at]
    nearest[i] = np.where(value < least[i], at + j.start, nearest[i])
    least[i] = np.minimum(value, least[i])
  return nearest


def memorised(samples: np.ndarray, training: np.ndarray) -> float:
  """Fraction of samples as near to a training image as these are to each other.

  Near is up to the median distance of a training image to the nearest other
  one. Fresh data of the same distribution gives 0.5, copies 1, noise 0.

  Args:
    samples: [n, ...].
    training: [m, ...] with m >= 2.

  Raises:
    ValueError: as `nearest_distances`.
  """
  between = nearest_distances(training, training, exclude_self=True)
  return float(
    np.mean(nearest_distances(samples, training) <= np.median(between))
  )
