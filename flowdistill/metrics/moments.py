"""Mean and covariance of features, in float64, of any number of blocks.

Blocks are merged about their own means, which loses no digits however far the
features are from the origin. The covariance is the unbiased one, Σ (x − m)
(x − m)ᵀ / (n − 1), as np.cov has it and as FID is computed everywhere.

Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances" (1979), https://doi.org/10.1007/978-3-642-51461-6_3,
eq. 2.1, for vectors.
"""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from flowdistill.metrics.blocks import blocks, rows

TOLERANCE = 1e-6
"""Asymmetry and negative eigenvalues of a covariance that are rounding, as a
part of its largest entry or eigenvalue: files may be in float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """Mean [d] and covariance [d, d] of `count` features, None if not known."""

  mean: np.ndarray
  covariance: np.ndarray
  count: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class RunningMoments:
  """What is known of `count` features of length d.

  Attributes:
    count: number of features.
    mean: [d], zeros if there are none.
    scatter: Σ (x − mean)(x − mean)ᵀ, [d, d].
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def empty(cls, size: int) -> 'RunningMoments':
    """Of no feature, of this length."""
    return cls(0, np.zeros(size), np.zeros((size, size)))

  @classmethod
  def of(cls, features: np.ndarray) -> 'RunningMoments':
    """Of features [n, d], n >= 1, which may be of any floating type.

    Raises:
      ValueError: if it is of another shape or not finite.
    """
    features = np.asarray(features)
    if features.ndim != 2:
      raise ValueError(f'features of shape [n, d] needed, got {features.shape}')
    features = rows(features, 'features')
    return merge((cls._of(x) for _, x in blocks(features)))

  @classmethod
  def _of(cls, block: np.ndarray) -> 'RunningMoments':
    mean = block.mean(axis=0)
    centred = block - mean
    return cls(len(block), mean, centred.T @ centred)

  def merged(self, other: 'RunningMoments') -> 'RunningMoments':
    """Of the features of both.

    Raises:
      ValueError: if their lengths differ.
    """
    if self.mean.shape != other.mean.shape:
      raise ValueError(
        'features of one length needed, got '
        f'{len(self.mean)} and {len(other.mean)}'
      )
    if not self.count or not other.count:
      return self if self.count else other
    count, step = self.count + other.count, other.mean - self.mean
    share = other.count / count
    between = np.sqrt(self.count * share) * step
    scatter = np.outer(between, between)  # symmetric to the last digit
    scatter += self.scatter
    scatter += other.scatter
    return RunningMoments(count, self.mean + share * step, scatter)

  def moments(self) -> Moments:
    """Mean and unbiased covariance.

    Raises:
      ValueError: if there are fewer than two features.
    """
    if self.count < 2:
      raise ValueError(f'at least two features needed, got {self.count}')
    return Moments(self.mean, self.scatter / (self.count - 1), self.count)


def merge(parts: Iterable[RunningMoments]) -> RunningMoments:
  """Of the features of all parts, of which there is at least one.

  Their order and their limits decide the last digits. For results that are
  equal to the byte on any number of hosts, take blocks of a fixed number of
  consecutive samples, and merge them in the order of their samples.

  Raises:
    ValueError: if lengths differ.
  """
  return functools.reduce(lambda a, b: a.merged(b), parts)


def moments(features: np.ndarray) -> Moments:
  """Mean and unbiased covariance of features [n, d].

  Raises:
    ValueError: if there are fewer than two, or one is not finite.
  """
  shape = np.shape(features)
  if len(shape) != 2 or shape[0] < 2:
    raise ValueError(
      f'features of shape [n, d] with n >= 2 needed, got {shape}'
    )
  return RunningMoments.of(features).moments()


def checked_moments(
  mean: np.ndarray, covariance: np.ndarray, count: int | None = None
) -> Moments:
  """Moments that somebody else has computed, of floats of 32 or 64 bits.

  The covariance is made symmetric to the last digit.

  Raises:
    ValueError: saying what is wrong: a type or a shape, a number that is not
      finite, a covariance that is not symmetric or not positive semi-definite
      up to rounding, or a count below 2.
  """
  for name, array in (('mean', mean), ('covariance', covariance)):
    if array.dtype.newbyteorder('=') not in (np.float32, np.float64):
      raise ValueError(
        f'the {name} must be of float32 or float64, not {array.dtype}'
      )
    if not np.isfinite(array).all():
      raise ValueError(f'the {name} must be finite')
  d = mean.size
  if mean.shape != (d,) or not d or covariance.shape != (d, d):
    raise ValueError(
      'the mean must be of shape [d] and the covariance of [d, d], not '
      f'{list(mean.shape)} and {list(covariance.shape)}'
    )
  if count is not None and count < 2:
    raise ValueError(f'the count of features must be at least 2, not {count}')
  covariance = covariance.astype(np.float64)
  _check_covariance(covariance)
  return Moments(mean.astype(np.float64), _symmetric(covariance), count)


def _check_covariance(covariance: np.ndarray) -> None:
  size = np.abs(covariance).max()
  apart = np.abs(covariance - covariance.T).max()
  if apart > TOLERANCE * size:
    raise ValueError(
      f'the covariance must be symmetric; entries differ by {apart:.2g} from '
      f'their mirrors, and the largest is {size:.2g}'
    )
  values = np.linalg.eigvalsh(_symmetric(covariance))
  if values[0] < -TOLERANCE * values[-1] or values[-1] < 0:
    raise ValueError(
      'the covariance must be positive semi-definite; its eigenvalues are from '
      f'{values[0]:.2g} to {values[-1]:.2g}'
    )


def _symmetric(covariance: np.ndarray) -> np.ndarray:
  return covariance / 2 + covariance.T / 2
