"""Precision and recall, density and coverage: quality and variety apart.

The manifold of a set of features is the union of balls B(x_i, r_i) around each,
with r_i the distance to its k-th nearest neighbour in the set.

  precision  share of the samples in the manifold of the reference
  recall     share of the reference in the manifold of the samples
  density    mean over samples of the number of reference balls around them, / k
  coverage   share of the reference balls with a sample in them

Density has mean 1 for samples of the real distribution, and may exceed it;
precision counts every sample near an outlier of the reference, density and
coverage do so less. For precision and recall balls are closed, for density and
coverage open, as in the code of their authors: a set has density 1 and coverage
1 to itself.

Sources: Kynkaanniemi et al., "Improved Precision and Recall Metric for
Assessing Generative Models" (2019), https://arxiv.org/abs/1904.06991, eq. 1;
Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models"
(2020), https://arxiv.org/abs/2002.09797, eqs. 4 and 5, and its prdc.py.
"""

import numpy as np

from flowdistill.metrics.blocks import check_lengths, rows
from flowdistill.metrics.distances import squared_distances, squared_within

TIE = 1e-9
"""Squares that differ by this part are equal: rounding depends on the block."""


def precision_recall(
  samples: np.ndarray, reference: np.ndarray, *, k: int = 3
) -> dict[str, float]:
  """Precision and recall, in [0, 1], of samples [n, d] and reference [m, d].

  The memory beside the features is that of some blocks, whatever n and m;
  distances are in float64. A figure depends on n and m: compare equal ones.

  Raises:
    ValueError: if a set has no more than k features, one of them is not finite,
      or their lengths differ.
  """
  samples, reference = _checked(samples, reference, k)
  of_samples, of_reference = radii(samples, k), radii(reference, k)
  precise, recalled = (
    np.zeros(len(samples), bool),
    np.zeros(len(reference), bool),
  )
  for i, j, squared in squared_distances(samples, reference):
    closed = squared / (1 + TIE)
    precise[i] |= (closed <= of_reference[j]).any(axis=1)
    recalled[j] |= (closed <= of_samples[i, None]).any(axis=0)
  return {
    'precision': float(precise.mean()),
    'recall': float(recalled.mean()),
  }


def density_coverage(
  samples: np.ndarray, reference: np.ndarray, *, k: int = 5
) -> dict[str, float]:
  """Density, at least 0, and coverage in [0, 1]; see `precision_recall`.

  Raises:
    ValueError: as `precision_recall`.
  """
  samples, reference = _checked(samples, reference, k)
  open_radii = radii(reference, k) * (1 - TIE)
  balls, covered = 0, np.zeros(len(reference), bool)
  for _, j, squared in squared_distances(samples, reference):
    inside = squared < open_radii[j]
    balls += int(inside.sum())
    covered[j] |= inside.any(axis=0)
  return {
    'density': balls / (k * len(samples)),
    'coverage': float(covered.mean()),
  }


def radii(features: np.ndarray, k: int) -> np.ndarray:
  """Squared distance of each of [n, d] to its k-th nearest other one: [n]."""
  nearest = np.full((len(features), k), np.inf)
  for i, j, squared in squared_within(features, itself=np.inf):
    nearest[i] = _smallest(nearest[i], squared)
    if i != j:
      nearest[j] = _smallest(nearest[j], squared.T)
  return nearest.max(axis=1)


def _smallest(nearest: np.ndarray, squared: np.ndarray) -> np.ndarray:
  """The k smallest of each row of [n, k] and [n, m], in any order."""
  k = nearest.shape[1]
  both = np.concatenate([nearest, squared], axis=1)
  both.partition(k - 1, axis=1)
  return both[:, :k]


def _checked(
  samples: np.ndarray, reference: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
  a, b = rows(samples, 'samples'), rows(reference, 'reference')
  check_lengths(a, b)
  if k < 1:
    raise ValueError(f'k = {k} must be at least 1')
  if min(len(a), len(b)) <= k:
    raise ValueError(
      f'k = {k} must be less than the number of features in each set; they '
      f'are {len(a)} samples and {len(b)} of the reference'
    )
  return a, b
