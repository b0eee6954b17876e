"""Memorisation where some training images are variants of one another.

Two skin tones of one emoji are nearer to each other than two emoji are: what is
near is then measured between images that are not related. An image may also
have been learnt mirrored.
"""

import numpy as np

from flowdistill.metrics.neighbours import nearest_distances

BLOCK = 512


def memorised_relatives(
  samples: np.ndarray, training: np.ndarray, kin: np.ndarray, *, flips: bool
) -> float:
  """Fraction of samples that are near to a training image.

  Near is up to the median distance of a training image to the nearest one of
  another kin, mirrored images included if `flips`.

  Args:
    samples: [n, h, w, c], or [n, ...] without flips.
    training: [m, h, w, c], or [m, ...].
    kin: int [m]; images of one number are related.
    flips: whether the mirrored training images count, too.

  Raises:
    ValueError: if an array is empty or not finite, shapes differ, or all images
      are related.
  """
  kin = np.asarray(kin)
  if kin.shape != (len(training),):
    raise ValueError(f'kin = {kin.shape} must have shape {(len(training),)}')
  both, of_both = np.asarray(training), kin
  if flips:
    both = np.concatenate([both, mirrored(both)])
    of_both = np.concatenate([kin, kin])
  near = np.median(distances_to_others(training, kin, both, of_both))
  return float(np.mean(nearest_distances(samples, both) <= near))


def mirrored(x: np.ndarray) -> np.ndarray:
  """Images [n, h, w, c], left for right.

  Raises:
    ValueError: if they are no images.
  """
  if x.ndim != 4:
    raise ValueError(f'flips need images [n, h, w, c], got {x.shape}')
  return x[:, :, ::-1]


def distances_to_others(
  a: np.ndarray, kin_a: np.ndarray, b: np.ndarray, kin_b: np.ndarray
) -> np.ndarray:
  """Distance of a [n, ...] to the nearest b [m, ...] of another kin, [n].

  Raises:
    ValueError: if there is no other kin.
  """
  if len(np.unique(kin_b)) < 2:
    raise ValueError('images of at least two kins are needed, got one')
  a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
  centre = b.mean(axis=0)
  a, b = a - centre, b - centre
  norm_a, norm_b = (np.square(x).sum(axis=1) for x in (a, b))
  nearest = []
  for i in range(0, len(a), BLOCK):
    rows = slice(i, i + BLOCK)
    squared = norm_a[rows, None] + norm_b - 2 * a[rows] @ b.T
    squared[kin_a[rows, None] == kin_b] = np.inf
    nearest.append(squared.min(axis=1))
  return np.sqrt(np.maximum(np.concatenate(nearest), 0))
