"""The linear path between data and noise, and quantities derived from it.

x_t = (1 − t) x0 + t x1,  v = x1 − x0
f(x_t, t, s) = x_t + (s − t) u(x_t, t, s)

Source: Liu, Gong, Liu, "Flow Straight and Fast" (2022),
https://arxiv.org/abs/2209.03003, eq. 1; Sabour et al., "Align Your Flow"
(2025), https://arxiv.org/abs/2506.14603, section 3.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Cond = Any
AverageVelocity = Callable[[Array, Array, Array, Cond], Array]
"""u(x_t [b, ...], t [b], s [b], cond) -> [b, ...]."""
Velocity = Callable[[Array, Array, Cond], Array]
"""v(x_t [b, ...], t [b], cond) -> [b, ...]."""


def expand(t: Array, x: Array) -> Array:
  """Returns t [b] as [b, 1, ...], ready to multiply x [b, ...]."""
  return jnp.reshape(t, t.shape + (1,) * (x.ndim - t.ndim))


def interpolate(x0: Array, x1: Array, t: Array) -> Array:
  """x_t = (1 − t) x0 + t x1 for x0, x1 [b, ...] and t [b] in [0, 1]."""
  t = expand(t, x0)
  return (1 - t) * x0 + t * x1


def x0_from_velocity(x_t: Array, v: Array, t: Array) -> Array:
  """The data that x_t and its velocity predict: x0 = x_t − t v."""
  return x_t - expand(t, x_t) * v


def x1_from_velocity(x_t: Array, v: Array, t: Array) -> Array:
  """The noise that x_t and its velocity predict: x1 = x_t + (1 − t) v."""
  return x_t + (1 - expand(t, x_t)) * v


def score_from_velocity(x_t: Array, v: Array, t: Array) -> Array:
  """∇ log p_t(x_t) = −E[x1 | x_t] / t, for Gaussian noise and t > 0."""
  return -x1_from_velocity(x_t, v, t) / expand(t, x_t)


def flow_map(
  u: AverageVelocity, x_t: Array, t: Array, s: Array, cond: Cond
) -> Array:
  """f(x_t, t, s) = x_t + (s − t) u(x_t, t, s): the jump from time t to s."""
  return x_t + expand(s - t, x_t) * u(x_t, t, s, cond)


def below(s: Any, gamma: float) -> tuple[Any, Any]:
  """The time r below s from which noise leads up to s, and its factor m.

  m x_r + γ s ε is a state of time s where σ(r) = √(1 − γ²) σ(s), with the noise
  level σ(t) = t / (1 − t). With k = √(1 − γ²) these are m = 1 − (1 − k) s and
  r = k s / m, which are finite for every s.

  Args:
    s: time or times, in [0, 1].
    gamma: γ in [0, 1], how much of the noise at s is fresh.
  """
  k = math.sqrt(1 - gamma**2)
  m = 1 - (1 - k) * s
  return k * s / m, m


def check_gamma(gamma: float) -> None:
  """Raises ValueError if γ is outside [0, 1]."""
  if not 0 <= gamma <= 1:
    raise ValueError(f'gamma = {gamma} must lie in [0, 1]')


def velocity_of(u: AverageVelocity) -> Velocity:
  """The instantaneous velocity v(x_t, t) = u(x_t, t, t)."""
  return lambda x_t, t, cond: u(x_t, t, t, cond)
