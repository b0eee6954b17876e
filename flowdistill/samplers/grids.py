"""Time grids: steps -> float64 [steps + 1], falling from noise to data at 0.

A grid that begins below 1 uses the noise x1 as x at its first time.
"""

import statistics

import numpy as np


def uniform(steps: int, *, start: float = 1.0) -> np.ndarray:
  """1, 1 − 1/n, ..., 1/n, 0, times the time at which it starts.

  Args:
    steps: n.
    start: in (0, 1]; SlimFlow and rectified flow train at times up to 0.999,
      and start there.

  Raises:
    ValueError: if `start` is out of range.
  """
  if not 0 < start <= 1:
    raise ValueError(f'start = {start} must be above 0 and at most 1')
  return np.linspace(start, 0.0, steps + 1)


def shifted(steps: int, *, shift: float = 3.0) -> np.ndarray:
  """The noise level σ(t) = t / (1 − t) times α; α > 1 has more steps at noise.

  That is α t / (1 + (α − 1) t) = t / (t + (1 − t) / α), and the last form is
  exact at both ends.

  Source: Esser et al., "Scaling Rectified Flow Transformers" (2024),
  https://arxiv.org/abs/2403.03206, eq. 23; α = 3 is theirs for 1024² images.

  Args:
    steps: n.
    shift: α > 0; 1 is the uniform grid.

  Raises:
    ValueError: if α is not positive.
  """
  _check_positive(shift=shift)
  t = uniform(steps)
  return t / (t + (1 - t) / shift)


def logit_normal(
  steps: int, *, mean: float = 0.0, std: float = 1.0
) -> np.ndarray:
  """The quantiles 1, 1 − 1/n, ..., 0 of t = sigmoid(N(mean, std²)).

  Steps are short where training with that law drew times often.

  Args:
    steps: n.
    mean: of log σ(t); above 0 there are more steps at noise.
    std: of log σ(t), above 0; a larger one has longer steps in the middle.

  Raises:
    ValueError: if `std` is not positive.
  """
  _check_positive(std=std)
  normal = statistics.NormalDist()
  between = uniform(steps)[1:-1]
  z = np.array([normal.inv_cdf(p) for p in between], np.float64)
  inside = 1 / (1 + np.exp(-(mean + std * z)))
  return np.concatenate([[1.0], inside, [0.0]])


def karras(
  steps: int,
  *,
  rho: float = 7.0,
  sigma_min: float = 0.002,
  sigma_max: float = 80.0,
) -> np.ndarray:
  """Noise levels σ(t) = t / (1 − t) whose ρ-th roots are evenly spaced, and 0.

  Its first time is σ_max / (1 + σ_max), 0.988 for 80.

  Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
  Generative Models" (2022), https://arxiv.org/abs/2206.00364, eq. 5.

  Args:
    steps: n; σ falls from σ_max to σ_min in n − 1 of them, and to 0 in the
      last.
    rho: ρ > 0; a larger one has shorter steps near the data.
    sigma_min: σ_min, the last noise level above 0.
    sigma_max: σ_max, the first one.

  Raises:
    ValueError: unless ρ > 0 and 0 < σ_min < σ_max.
  """
  _check_positive(rho=rho, sigma_min=sigma_min)
  if not sigma_min < sigma_max:
    raise ValueError(
      f'sigma_max = {sigma_max} must be above sigma_min = {sigma_min}'
    )
  high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
  sigma = np.linspace(high, low, steps) ** rho
  return np.append(sigma / (1 + sigma), 0.0)


def kumaraswamy(
  steps: int,
  *,
  a: float = 1.0,
  b: float = 1.0,
  c: float = 1.0,
  gap: tuple[float, ...] = (0.0, 0.0),
) -> np.ndarray:
  """t = 1 − (1 − (1 − w^a)^b)^c for even w, from g0 to 1 − g1, and then 0.

  With g1 > 0 the n times above 0 have both ends g0 and 1 − g1 among their w,
  and the last step goes from there to the data; with g1 = 0 they are the first
  n of n + 1 from g0 to 1. a = b = c = 1 without gaps is the uniform grid.

  Source: Sun et al., "Unified Continuous Generative Models" (2025),
  https://arxiv.org/abs/2505.07447; TwinFlow (2025),
  https://arxiv.org/abs/2512.05150, draws in 2 steps with the gap (0.001, 0.6),
  in 4 with (0.001, 0.5).

  Args:
    steps: n.
    a: above 0; a larger one has shorter steps near the noise.
    b: above 0; a larger one has shorter steps near the data.
    c: above 0; a larger one has shorter steps near the noise.
    gap: (g0, g1), the lengths omitted from w at the noise and at the data.

  Raises:
    ValueError: unless a, b, c > 0 and 0 <= g0 < 1 − g1 <= 1.
  """
  _check_positive(a=a, b=b, c=c)
  if len(gap) != 2 or not 0 <= gap[0] < 1 - gap[1] <= 1:
    raise ValueError(
      f'gap = {gap} must be (g0, g1), at least 0 and below 1 together'
    )
  if gap[1] > 0:
    w = np.linspace(gap[0], 1 - gap[1], steps)
  else:
    w = np.linspace(gap[0], 1, steps + 1)[:-1]
  return np.append(1 - (1 - (1 - w**a) ** b) ** c, 0.0)


def explicit(
  steps: int, *, times: tuple[float, ...] = (1.0, 0.0)
) -> np.ndarray:
  """The given times, one more than there are steps.

  Raises:
    ValueError: unless there are steps + 1 of them, which fall strictly from at
      most 1 to 0.
  """
  grid = np.asarray(times, np.float64)
  if grid.shape != (steps + 1,):
    raise ValueError(
      f'times = {tuple(times)} must have {steps + 1} entries, not {len(times)} '
      f'for {steps} steps'
    )
  if not falls(grid):
    raise ValueError(
      f'times = {tuple(times)} must fall from at most 1 to 0, each time below '
      'the one before'
    )
  return grid


def falls(grid: np.ndarray) -> bool:
  """Whether times fall strictly, from at most 1 to 0."""
  return bool(grid[0] <= 1 and grid[-1] == 0 and np.all(np.diff(grid) < 0))


def _check_positive(**values: float) -> None:
  for name, value in values.items():
    if not value > 0:
      raise ValueError(f'{name} = {value} must be above 0')
