"""Time grids: steps -> float64 [steps + 1], falling from noise to data at 0."""

from collections.abc import Sequence

import numpy as np


def uniform(steps: int) -> np.ndarray:
  """1, 1 − 1/n, ..., 1/n, 0."""
  return np.linspace(1.0, 0.0, steps + 1)


def shifted(steps: int, *, shift: float = 3.0) -> np.ndarray:
  """σ(t) = t / (1 − t), the noise level, times α: α > 1 stays longer at noise.

  That is α t / (1 + (α − 1) t) = t / (t + (1 − t) / α), and the last form keeps
  both ends to the last digit.

  Source: Esser et al., "Scaling Rectified Flow Transformers" (2024),
  https://arxiv.org/abs/2403.03206, eq. 23; α = 3 is theirs for 1024² images.

  Args:
    steps: n.
    shift: α > 0; 1 is the uniform grid.

  Raises:
    ValueError: if α is not positive.
  """
  if not shift > 0:
    raise ValueError(f'shift is {shift}, it must be above 0 (1 is uniform)')
  t = uniform(steps)
  return t / (t + (1 - t) / shift)


def explicit(steps: int, *, times: Sequence[float] = (1.0, 0.0)) -> np.ndarray:
  """The times as they are given, one more than there are steps.

  Raises:
    ValueError: if their number is not steps + 1, or if they do not fall
      strictly, from at most 1 to 0.
  """
  grid = np.asarray(times, np.float64)
  if grid.shape != (steps + 1,):
    raise ValueError(
      f'times has {len(times)} entries: that is a grid for '
      f'{len(times) - 1} steps, and this one needs {steps}'
    )
  if grid[0] > 1 or grid[-1] != 0 or np.any(np.diff(grid) >= 0):
    raise ValueError(
      f'times is {tuple(times)}: it must fall from at most 1 to 0, '
      'each time below the one before'
    )
  return grid
