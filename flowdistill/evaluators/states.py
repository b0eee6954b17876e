"""Noised real examples, for evaluators that call a network themselves."""

import numpy as np

from flowdistill.evaluators.signature import Data, Model, Models, Row


def states(
  model: Model,
  source: Data,
  t: np.ndarray,
  seed: int,
  guidance: float = 1.0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """x_t = (1 − t) x0 + t x1 of random examples, and their conditions.

  Args:
    model: in whose space they are.
    source: of x0.
    t: times [n].
    seed: of the examples and their noise, which do not depend on t.
    guidance: the scale that a network is conditioned on, if it takes one.

  Returns:
    x_t float32 [n, ...] and name -> array [n, ...].
  """
  generator = np.random.default_rng(seed)
  index = generator.integers(len(source), size=len(t))
  x0 = model.to_space(source[index]['x0'])
  x1 = generator.standard_normal(x0.shape, np.float32)
  x_t = x0 + expand(t, x1) * (x1 - x0)
  scalars = {'guidance': guidance, 'guidance_low': 0.0, 'guidance_high': 1.0}
  cond = {k: np.full(len(t), v, np.float32) for k, v in scalars.items()}
  return x_t.astype(np.float32), {**cond, **source.conditions(index)}


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


def columns(role: str, guidance: float) -> Row:
  """The columns of a row that name the network."""
  options = {} if guidance == 1 else {'options': f'guidance={guidance}'}
  return {'model': role, **options}


def check_role(role: str, models: Models, option: str = 'role') -> None:
  """Raises ValueError unless there is a model of this role."""
  if role not in models:
    raise ValueError(f'{option} = {role!r} must be one of {[*models]}')
