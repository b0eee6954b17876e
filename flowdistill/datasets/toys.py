"""Points in the plane: two moons, eight Gaussians, a checkerboard.

Each is centred and scaled by constants of the distribution, not of the sample:
the mean is 0 and the variance 1, averaged over the two axes. Option `size` is
the number of points before the split, which are drawn from a fixed seed.
"""

import numpy as np

from flowdistill.datasets.source import Source
from flowdistill.datasets.split import split_indices
from flowdistill.flow.spec import DataSpec

SEED = 0


def moons(
  *, split: str = 'all', size: int = 10_000, noise: float = 0.05
) -> Source:
  """Two interleaved half circles, of radius 1 before scaling.

  The lower is the upper, (cos a, sin a), rotated by 180° about (½, ¼).

  Args:
    split: 'all', 'train' or 'validation' (see `split.py`).
    size: number of points, at least 1.
    noise: standard deviation about the curve, in radii, at least 0.
  """
  rng = _generator(size, noise)
  angle = rng.uniform(0, np.pi, size)
  upper = np.stack([np.cos(angle) - 1 / 2, np.sin(angle) - 1 / 4], axis=-1)
  x = upper * rng.choice([-1, 1], (size, 1))
  x = x + noise * rng.standard_normal(x.shape)
  # E[(cos a − ½)²] + E[(sin a − ¼)²], for a uniform in [0, π]
  variance = 3 / 4 + 9 / 16 - 1 / np.pi
  return _points(x, variance / 2 + noise**2, split)


def gaussians(
  *, split: str = 'all', size: int = 10_000, noise: float = 0.1
) -> Source:
  """Eight Gaussians, evenly spaced on a circle, of radius 1 before scaling.

  Args:
    split: 'all', 'train' or 'validation' (see `split.py`).
    size: number of points, at least 1.
    noise: standard deviation of each, in radii, at least 0.
  """
  rng = _generator(size, noise)
  angle = rng.integers(8, size=size) * np.pi / 4
  x = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  x = x + noise * rng.standard_normal(x.shape)
  return _points(x, 1 / 2 + noise**2, split)


def checkerboard(*, split: str = 'all', size: int = 10_000) -> Source:
  """Uniform on the eight dark squares of a 4 x 4 board.

  Args:
    split: 'all', 'train' or 'validation' (see `split.py`).
    size: number of points, at least 1.
  """
  rng = _generator(size)
  x = rng.uniform(-2, 2, size)
  y = rng.uniform(0, 1, size) - 2 * rng.integers(2, size=size)
  y = y + np.floor(x) % 2
  x = np.stack([x, y], axis=-1)
  return _points(x, 4**2 / 12, split)


def _generator(size: int, noise: float = 0.0) -> np.random.Generator:
  if size < 1:
    raise ValueError(f'size = {size} must be at least 1')
  if noise < 0:
    raise ValueError(f'noise = {noise} must be at least 0')
  return np.random.default_rng(SEED)


def _points(x: np.ndarray, variance: float, split: str) -> Source:
  x0 = (x / np.sqrt(variance)).astype(np.float32)
  return Source(DataSpec((2,)), {'x0': x0[split_indices(len(x0), split)]})
