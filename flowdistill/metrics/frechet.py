"""The Fréchet distance between two sets of features, in float64.

d² = ‖m₁ − m₂‖² + tr(S₁ + S₂ − 2 (S₁ S₂)^½)

It is called FID only if the features are those of the Inception network.

With any factors S = F Fᵀ, tr (S₁ S₂)^½ is the sum of the singular values of
F₁ᵀ F₂; here F = V √Λ of the eigendecomposition, less the directions in which
there is no variance but rounding. Relative errors of that trace against 80
digits of mpmath, in 32 dimensions, float64 throughout:

  covariances                     condition 8e13   of rank 16, and of rank 32
  this one                                 2e-13   4e-16
  singular values of the roots             2e-16   6e-9
  eigenvalues of S₁^½ S₂ S₁^½              8e-9    9e-9
  Schur (scipy.linalg.sqrtm)               3e-8    9e-9
  eigenvalues of S₁ S₂                     3e-8    9e-9
  Newton-Schulz, 15 iterations             2e-3    4e-16
  Newton-Schulz, 100 iterations            diverges in both

The others take the root of what was rounded at 1e-16 of the largest eigenvalue,
which leaves 1e-8 of it. Fewer features than dimensions are exact, too: their
covariance has a rank below their number.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017),
https://arxiv.org/abs/1706.08500, eq. 6; Dowson, Landau, "The Fréchet Distance
between Multivariate Normal Distributions" (1982),
https://doi.org/10.1016/0047-259X(82)90077-X.
"""

from collections.abc import Mapping

import numpy as np

from flowdistill.metrics.moments import Moments


def frechet(samples: Moments, reference: Moments) -> dict[str, float]:
  """{'frechet': the distance of the samples from the reference}."""
  return {'frechet': frechet_distance(samples, reference)}


def spatial_frechet(samples: Moments, reference: Moments) -> dict[str, float]:
  """{'spatial_frechet': the same of features that have a place in the image}.

  Source: Nash et al., "Generating Images with Sparse Representations" (2021),
  https://arxiv.org/abs/2103.03841: sFID, over the first 7 channels of layer
  mixed_6/conv of the Inception network, as in the evaluator of ADM.
  """
  return {'spatial_frechet': frechet_distance(samples, reference)}


def frechet_distance(a: Moments, b: Moments) -> float:
  """The squared 2-Wasserstein distance between two Gaussians.

  Raises:
    ValueError: if the features have different lengths.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(
      f'features of one length needed, got {len(a.mean)} and {len(b.mean)}'
    )
  cross = np.linalg.svd(_factor(a).T @ _factor(b), compute_uv=False).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  distance = np.sum((a.mean - b.mean) ** 2) + traces - 2 * cross
  return float(max(distance, 0))  # Negative only by rounding.


def _factor(moments: Moments) -> np.ndarray:
  """F [d, rank] with F Fᵀ = S.

  An eigenvalue is rounding if it is below d ε of the largest, or if there are
  more than n − 1 of them, the rank that n features have at most.
  """
  values, vectors = np.linalg.eigh(moments.covariance)
  d = len(values)
  first = d - min(d, d if moments.count is None else moments.count - 1)
  least = d * np.finfo(np.float64).eps * values[-1]
  first = max(first, int(np.searchsorted(values, max(least, 0), 'right')))
  return vectors[:, first:] * np.sqrt(values[first:])


def sampling_bias(reference: Moments, count: int) -> float:
  """The mean distance of `count` samples of a Gaussian from that Gaussian.

  Of the leading order in 1 / count, Σ λ_i / n + Σ_ij (1 + δ_ij) λ_i λ_j /
  (2 n (λ_i + λ_j)) with the eigenvalues λ of the covariance, and at most 2 Σ λ.
  A figure of few samples is too large by about that much: right to 10 % for
  more than 2 d samples, and to 40 % for fewer.

  Raises:
    ValueError: if count is below 2.
  """
  if count < 2:
    raise ValueError(f'count = {count} must be at least 2')
  values = np.maximum(np.linalg.eigvalsh(reference.covariance), 0)
  values = values[values > 0]
  pairs = np.outer(values, values) / (values[:, None] + values)
  total = values.sum()
  bias = total + (pairs.sum() + np.trace(pairs)) / 2
  return float(min(bias / count, 2 * total))


def mean_ratio(
  distances: Mapping[str, float], validation: Mapping[str, float]
) -> float:
  """FDr^k: the mean over k networks of the distance over that of real images.

  1 means: as far from the training set as the validation set is, on average.

  Source: Yang et al., "Representation Fréchet Loss for Visual Generation"
  (2026), https://arxiv.org/abs/2604.28190: the arithmetic mean, and both
  distances from the same reference statistics (scripts/compute_valfd.py of its
  repository).

  Args:
    distances: network -> Fréchet distance of the samples from the reference.
    validation: network -> that of held-out real images.

  Raises:
    ValueError: if there are none, the networks differ, or a distance of the
      validation set is not positive.
  """
  if not distances or set(distances) != set(validation):
    raise ValueError(
      'distances and validation must be of the same networks, at least one; '
      f'got {sorted(distances)} and {sorted(validation)}'
    )
  for network, value in validation.items():
    if not value > 0:
      raise ValueError(
        f'validation = {value} of {network} must be above 0: the validation '
        'set must not be the reference itself'
      )
  return float(np.mean([distances[n] / validation[n] for n in distances]))
