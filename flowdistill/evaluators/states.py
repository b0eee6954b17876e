"""Real examples on their way to noise, for evaluators that ask a network."""

import numpy as np

from flowdistill.evaluators.signature import Data, Model, Models, Row


def states(
  source: Data, t: np.ndarray, seed: int, guidance: float = 1.0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """x_t = (1 − t) x0 + t x1 of random examples, and their conditions.

  Args:
    source: of x0.
    t: times [n].
    seed: of which examples, and of their noise; whatever t is, the same.
    guidance: the scale that a network is told, if it takes one; at all times.

  Returns:
    x_t float32 [n, ...] and name -> array [n].
  """
  generator = np.random.default_rng(seed)
  index = generator.integers(len(source), size=len(t))
  real = source[index]
  x1 = generator.standard_normal((len(t), *source.shape), np.float32)
  x_t = real['x0'] + expand(t, x1) * (x1 - real['x0'])
  told = {'guidance': guidance, 'guidance_low': 0.0, 'guidance_high': 1.0}
  cond = {k: np.full(len(t), v, np.float32) for k, v in told.items()}
  if source.num_classes:
    cond['label'] = real['label']
  return x_t.astype(np.float32), cond


def expand(t: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Returns t [n] as [n, 1, ...], ready to multiply x [n, ...]."""
  return t.reshape(-1, *(1,) * (x.ndim - 1))


def jump(
  model: Model,
  x_t: np.ndarray,
  t: np.ndarray,
  s: np.ndarray,
  cond: dict[str, np.ndarray],
) -> np.ndarray:
  """f(x_t, t, s) = x_t + (s − t) u(x_t, t, s)."""
  return x_t + expand(s - t, x_t) * model.ask(x_t, t, s, cond)


def mean_norm(x: np.ndarray) -> float:
  """The mean over the examples x [n, ...] of ‖x‖."""
  flat = np.asarray(x, np.float64).reshape(len(x), -1)
  return float(np.linalg.norm(flat, axis=-1).mean())


def asked(role: str, guidance: float) -> Row:
  """Which network was asked, as a row says it."""
  told = {} if guidance == 1 else {'options': f'guidance={guidance}'}
  return {'model': role, **told}


def check_role(role: str, models: Models, option: str = 'role') -> None:
  """Raises ValueError unless there is such a model."""
  if role not in models:
    raise ValueError(f'{option} = {role!r}, the roles there are: {[*models]}')
