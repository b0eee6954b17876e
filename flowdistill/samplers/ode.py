"""Runge-Kutta methods for dx/dt = v(x, t), where v(x, t) = u(x, t, t).

Source: Butcher, "Numerical Methods for Ordinary Differential Equations"
(2016), section 23.
"""

from collections.abc import Callable

import jax

from flowdistill.samplers.sampler import (
  AverageVelocity,
  Sampler,
  at_scalar_times,
  one_state,
)

Array = jax.Array


def euler(u: AverageVelocity) -> Sampler:
  """Order 1: x_s = x_t + (s − t) v(x_t, t). One call a step."""
  v = _velocity(u)
  return one_state(
    lambda x, t, s, keys: x + (s - t) * v(x, t), nfe=lambda steps: steps
  )


def heun(u: AverageVelocity) -> Sampler:
  """Order 2: the mean of the velocities at both ends of an Euler step.

  The last step, to s = 0, is an Euler step, so n steps cost 2n − 1 calls.

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

  return one_state(step, nfe=lambda steps: 2 * steps - 1)


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

  return one_state(step, nfe=lambda steps: 4 * steps)


def _velocity(u: AverageVelocity) -> Callable[[Array, Array], Array]:
  u = at_scalar_times(u)
  return lambda x, t: u(x, t, t)
