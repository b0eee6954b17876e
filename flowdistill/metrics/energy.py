"""The energy distance between two samples, for low-dimensional data.

D² = 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, 0 if and only if the distributions are
equal.

Source: Szekely, Rizzo, "Energy statistics: a class of statistics based on
distances" (2013), https://doi.org/10.1016/j.jspi.2013.03.018, eq. 2.
"""

import numpy as np

from flowdistill.metrics.blocks import rows
from flowdistill.metrics.distances import squared_distances, squared_within


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
  across = sum(np.sqrt(x).sum() for _, _, x in squared_distances(a, b))
  return float(2 * across / (len(a) * len(b)) - _within(a) - _within(b))


def _within(a: np.ndarray) -> float:
  total = sum(
    np.sqrt(squared).sum() * (1 if i == j else 2)
    for i, j, squared in squared_within(a, itself=0)
  )
  return total / (len(a) * (len(a) - 1))
