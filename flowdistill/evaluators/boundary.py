"""How far u(x, t, t) of a student is from the velocity v(x, t) it learnt."""

import pathlib
from collections.abc import Iterator

import numpy as np

from flowdistill.evaluators.signature import Data, Gauge, Models, Row
from flowdistill.evaluators.states import (
  check_role,
  columns,
  mean_norm,
  states,
)
from flowdistill.evaluators.sweep import check_samples


def boundary(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  role: str = 'student',
  teacher: str = 'teacher',
  times: tuple[float, ...] = (0.1, 0.5, 0.9, 1.0),
  samples: int = 512,
  guidance: float = 1.0,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row with `boundary_error` over uniform t, then one for each time.

  This is E‖u(x_t, t, t) − v(x_t, t)‖ / E‖v(x_t, t)‖ on real examples. v is the
  teacher without guidance, so a student of a guided teacher differs from it.

  Args:
    models: role -> model.
    source: the real examples.
    features: not used.
    folder: not used.
    role: of the student.
    teacher: the role of its teacher.
    times: in [0, 1], at which it is measured as well.
    samples: number of examples, at least 2.
    guidance: the scale that a network is conditioned on, if it takes one.
    seed: of examples, noise and times.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  check_role(role, models)
  check_role(teacher, models, 'teacher')
  check_samples(samples)
  if not all(0 <= t <= 1 for t in times):
    raise ValueError(f'times = {times} must lie in [0, 1]')
  uniform = np.random.default_rng(seed).uniform(size=samples)
  fixed = [({'t': t}, np.full(samples, t)) for t in times]

  def rows() -> Iterator[Row]:
    for column, t in [({}, uniform), *fixed]:
      x_t, cond = states(models[role], source, t, seed, guidance)
      u = models[role].ask(x_t, t, t, cond)
      v = models[teacher].ask(x_t, t, t, cond)
      yield {
        **columns(role, guidance),
        **column,
        'samples': samples,
        'seed': seed,
        'boundary_error': mean_norm(u - v) / mean_norm(v),
      }

  return rows()
