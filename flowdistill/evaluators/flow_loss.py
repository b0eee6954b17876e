"""The loss of a velocity; on held-out examples, a validation loss."""

import pathlib
from collections.abc import Iterator

import numpy as np

from flowdistill.evaluators.signature import Data, Gauge, Models, Row
from flowdistill.evaluators.states import check_role, columns, states
from flowdistill.evaluators.sweep import check_samples


def flow_loss(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  role: str = 'student',
  samples: int = 2048,
  guidance: float = 1.0,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row with `flow_loss`: E‖u(x_t, t, t) − (x1 − x0)‖² / dimensions.

  t is uniform in [0.01, 1]. `evaluation.dataset` chooses the examples, such as
  a held-out split.

  Args:
    models: role -> model.
    source: of x0.
    features: not used.
    folder: not used.
    role: of the model.
    samples: number of x_t, at least 2; the same at each evaluation.
    guidance: the scale that a network is conditioned on, if it takes one.
    seed: of examples, noise and times.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  check_role(role, models)
  check_samples(samples)

  def rows() -> Iterator[Row]:
    t = np.random.default_rng(seed).uniform(0.01, 1, samples)
    model, zeros = models[role], np.zeros(samples)
    x_t, cond = states(model, source, t, seed, guidance)
    x_0, _ = states(model, source, zeros, seed, guidance)
    v_t = (x_t - x_0) / t.reshape(-1, *(1,) * (x_t.ndim - 1))
    error = np.square(model.ask(x_t, t, t, cond) - v_t)
    yield {
      **columns(role, guidance),
      'samples': samples,
      'seed': seed,
      'flow_loss': float(np.mean(error, dtype=np.float64)),
    }

  return rows()
