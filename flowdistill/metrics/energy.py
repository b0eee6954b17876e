"""The energy distance between two samples, for low-dimensional data.

D² = 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, 0 if and only if the distributions are
equal.

Source: Szekely, Rizzo, "Energy statistics: a class of statistics based on
distances" (2013), https://doi.org/10.1016/j.jspi.2013.03.018, eq. 2.
"""

import numpy as np

from flowdistill.metrics.distances import rows, squared_distances


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
  """Unbiased estimate of D² between a [n, ...] and b [m, ...], in float64.

  Pairs of an example with itself are excluded (a U-statistic): for two samples
  of one distribution the mean is 0, so about half of the values are negative.

  Raises:
    ValueError: if there are fewer than two examples, of different shapes, or
      with values that are not finite.
  """
  a, b = rows(a), rows(b)
  if min(len(a), len(b)) < 2:
    raise ValueError(f'at least two examples needed, got {len(a)}, {len(b)}')
  across = _sum_of_distances(a, b) / (len(a) * len(b))
  return float(2 * across - _within(a) - _within(b))


def _within(a: np.ndarray) -> float:
  return _sum_of_distances(a, a, exclude_self=True) / (len(a) * (len(a) - 1))


def _sum_of_distances(
  a: np.ndarray, b: np.ndarray, *, exclude_self: bool = False
) -> float:
  total = 0.0
  for first, squared in squared_distances(a, b):
    if exclude_self:
      local = np.arange(len(squared))
      squared[local, first + local] = 0
    total += np.sqrt(squared).sum()
  return total
