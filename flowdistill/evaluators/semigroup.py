"""How far two jumps are from one: f(f(x, t, r), r, s) and f(x, t, s)."""

import pathlib
from collections.abc import Iterator

import numpy as np

from flowdistill.evaluators.signature import Data, Gauge, Models, Row
from flowdistill.evaluators.states import (
  check_role,
  columns,
  jump,
  mean_norm,
  states,
)
from flowdistill.evaluators.sweep import check_samples


def semigroup(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  role: str = 'student',
  samples: int = 512,
  guidance: float = 1.0,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row with `semigroup_error`.

  E‖f(f(x_t, t, r), r, s) − f(x_t, t, s)‖ / E‖f(x_t, t, s) − x_t‖ for real
  examples and t > r > s, three sorted uniform times: the distance between the
  ends, relative to the length of the one jump. It is 0 for an exact flow map.

  Source: Boffi, Albergo, Vanden-Eijnden, "Flow Map Matching" (2024),
  https://arxiv.org/abs/2406.07507, the semigroup property.

  Args:
    models: role -> model.
    source: the real examples.
    features: not used.
    folder: not used.
    role: of the model.
    samples: number of examples, at least 2.
    guidance: the scale that a network is conditioned on, if it takes one.
    seed: of examples, noise and times.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  check_role(role, models)
  check_samples(samples)
  return _rows(models, source, role, samples, guidance, seed)


def _rows(
  models: Models,
  source: Data,
  role: str,
  samples: int,
  guidance: float,
  seed: int,
) -> Iterator[Row]:
  times = np.random.default_rng(seed).uniform(size=(3, samples))
  s, r, t = np.sort(times, axis=0)
  model = models[role]
  x_t, cond = states(model, source, t, seed, guidance)
  one = jump(model, x_t, t, s, cond)
  two = jump(model, jump(model, x_t, t, r, cond), r, s, cond)
  yield {
    **columns(role, guidance),
    'samples': samples,
    'seed': seed,
    'semigroup_error': mean_norm(two - one) / mean_norm(one - x_t),
  }
