"""Runge-Kutta methods for dx/dt = v(x, t), where v(x, t) = u(x, t, t).

Along a falling grid they go from noise to data, along a rising one back.

Source: Butcher, "Numerical Methods for Ordinary Differential Equations"
(2016), section 23.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from flowdistill.samplers.sampler import (
  AverageVelocity,
  Sampler,
  at_both_ends,
  at_times,
  one_state,
)

Array = jax.Array


def euler(u: AverageVelocity) -> Sampler:
  """Order 1: x_s = x_t + (s − t) v(x_t, t). One call a step."""
  v = _velocity(u)
  return one_state(lambda x, t, s, keys: x + (s - t) * v(x, t), reversible=True)


def heun(u: AverageVelocity) -> Sampler:
  """Order 2: the mean of the velocities at both ends of an Euler step.

  A step that ends at s = 0 is an Euler step, so n steps cost 2n − 1 calls from
  noise to data, and 2n back.

  Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
  Generative Models" (2022), https://arxiv.org/abs/2206.00364, Algorithm 1.
  """
  v = _velocity(u)

  def step(x: Array, t: Array, s: Array, keys: Array) -> Array:
    del keys
    v_t = v(x, t)
    x_s = x + (s - t) * v_t
    return jax.lax.cond(
      s > 0, lambda: x + (s - t) * (v_t + v(x_s, s)) / 2, lambda: x_s
    )

  asks = functools.partial(at_both_ends, at_zero=False)
  return one_state(step, asks, reversible=True)


def rk4(u: AverageVelocity) -> Sampler:
  """Order 4: the classical Runge-Kutta method. Four calls a step."""
  v = _velocity(u)

  def step(x: Array, t: Array, s: Array, keys: Array) -> Array:
    del keys
    h, middle = s - t, (s + t) / 2
    k1 = v(x, t)
    k2 = v(x + h / 2 * k1, middle)
    k3 = v(x + h / 2 * k2, middle)
    k4 = v(x + h * k3, s)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

  def asks(grid: np.ndarray) -> np.ndarray:
    t, s = grid[:-1], grid[1:]
    middle = (s + t) / 2
    return np.stack([t, middle, middle, s], axis=1).ravel()

  return one_state(step, asks, reversible=True)


def _velocity(u: AverageVelocity) -> Callable[[Array, Array], Array]:
  u = at_times(u)
  return lambda x, t: u(x, t, t)
