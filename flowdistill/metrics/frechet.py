"""The Fréchet distance between two sets of features, in float64.

d² = ‖m₁ − m₂‖² + tr(S₁ + S₂ − 2 (S₁ S₂)^½)

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017),
https://arxiv.org/abs/1706.08500, eq. 6. It is called FID only if the features
are those of the Inception network.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """Mean [d] and covariance [d, d] of `count` features, float64."""

  mean: np.ndarray
  covariance: np.ndarray
  count: int


def moments(features: np.ndarray) -> Moments:
  """Mean and unbiased covariance of features [n, d].

  Raises:
    ValueError: if there are fewer than two, or one is not finite.
  """
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or len(features) < 2:
    raise ValueError(
      f'features of shape [n, d] with n >= 2 needed, got {features.shape}'
    )
  if not np.isfinite(features).all():
    raise ValueError('the features must be finite')
  covariance = np.atleast_2d(np.cov(features, rowvar=False))
  return Moments(features.mean(axis=0), covariance, len(features))


def frechet_distance(a: Moments, b: Moments) -> float:
  """The squared 2-Wasserstein distance between two Gaussians.

  tr (S₁ S₂)^½ is the sum of the singular values of S₁^½ S₂^½: real and exact
  also for singular covariances, without a matrix root of a product.

  Raises:
    ValueError: if the features have different lengths.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(
      f'features of one length needed, got {len(a.mean)} and {len(b.mean)}'
    )
  roots = _root(a.covariance) @ _root(b.covariance)
  cross = np.linalg.svd(roots, compute_uv=False).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  distance = np.sum((a.mean - b.mean) ** 2) + traces - 2 * cross
  return float(max(distance, 0))  # Negative only by rounding.


def _root(covariance: np.ndarray) -> np.ndarray:
  values, vectors = np.linalg.eigh(covariance)
  return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
