"""How straight the paths of a flow are: few steps need straight paths."""

import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from flowdistill.evaluators.signature import Data, Gauge, Model, Models, Row
from flowdistill.evaluators.states import check_role, columns, states
from flowdistill.evaluators.sweep import check_samples


def straightness(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  role: str = 'student',
  steps: int = 32,
  samples: int = 512,
  guidance: float = 1.0,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row with `straightness`: ∫ E‖(z1 − z0) − ż_t‖² dt, 0 if straight.

  z_t is the path of the velocity u(x, t, t) from noise z1 to z0.

  Source: Liu, Gong, Liu, "Flow Straight and Fast" (2022),
  https://arxiv.org/abs/2209.03003, the measure S(Z) of straightness.

  Args:
    models: role -> model.
    source: of the conditions and the shape.
    features: not used.
    folder: not used.
    role: of the model.
    steps: of the midpoint method (second order), two calls each.
    samples: number of paths, at least 2.
    guidance: the scale that a network is conditioned on, if it takes one.
    seed: of the noise.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  check_role(role, models)
  check_samples(samples)
  if steps < 1:
    raise ValueError(f'steps = {steps} must be at least 1')

  def rows() -> Iterator[Row]:
    model, ones = models[role], np.ones(samples)
    x1, cond = states(model, source, ones, seed, guidance)
    yield {
      **columns(role, guidance),
      'steps': steps,
      'samples': samples,
      'seed': seed,
      'straightness': _integral(model, x1, cond, steps),
    }

  return rows()


def _integral(
  model: Model, x1: np.ndarray, cond: Mapping[str, np.ndarray], steps: int
) -> float:
  """∫ E‖ż_t‖² dt − E‖z1 − z0‖², as z1 − z0 is the mean of ż_t over t."""
  x, speed, h = x1.astype(np.float64), 0.0, 1 / steps
  for k in range(steps):
    t = np.full(len(x), 1 - k * h)
    middle = x - h / 2 * model.ask(x, t, t, cond)
    v = np.asarray(model.ask(middle, t - h / 2, t - h / 2, cond), np.float64)
    x = x - h * v
    speed += h * _squared(v)
  return speed - _squared(x1 - x)


def _squared(x: np.ndarray) -> float:
  """E‖x‖² over examples x [n, ...]."""
  return float(np.square(x).sum() / len(x))
