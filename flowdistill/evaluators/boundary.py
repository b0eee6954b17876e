"""Whether a student that stands still is its teacher: u(x, t, t) = v(x, t)."""

import pathlib
from collections.abc import Iterator

import numpy as np

from flowdistill.evaluators.signature import Data, Features, Models, Row
from flowdistill.evaluators.states import asked, check_role, mean_norm, states
from flowdistill.evaluators.sweep import check_samples


def boundary(
  models: Models,
  source: Data,
  features: Features | None,
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

  E‖u(x_t, t, t) − v(x_t, t)‖ / E‖v(x_t, t)‖ for real examples, v the teacher
  without guidance: a student of a guided teacher differs by its guidance.

  Args:
    models: role -> model.
    source: the real examples.
    features: unused, every evaluator takes it.
    folder: unused as well.
    role: of the student.
    teacher: the role of its teacher.
    times: in [0, 1], where it is measured besides.
    samples: number of examples, at least 2.
    guidance: the scale that a network is told, if it takes one.
    seed: of examples, noise and times.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  check_role(role, models)
  check_role(teacher, models, 'teacher')
  check_samples(samples)
  if not all(0 <= t <= 1 for t in times):
    raise ValueError(f'times = {times}, they must lie in [0, 1]')
  t = np.random.default_rng(seed).uniform(size=samples)
  todo = [({}, t), *(({'t': at}, np.full(samples, at)) for at in times)]

  def rows() -> Iterator[Row]:
    for where, t in todo:
      x_t, cond = states(source, t, seed, guidance)
      u = models[role].ask(x_t, t, t, cond)
      v = models[teacher].ask(x_t, t, t, cond)
      yield {
        **asked(role, guidance),
        **where,
        'samples': samples,
        'seed': seed,
        'boundary_error': mean_norm(u - v) / mean_norm(v),
      }

  return rows()
