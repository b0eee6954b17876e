"""Conversion between TrigFlow's path, a quarter circle, and the linear path.

x_τ = cos τ x0 + sin τ z,  z ~ N(0, σd²),  τ in [0, π/2]

Divided by cos τ + σd sin τ it is x_t on the linear path, at the time t with
the same noise level, t / (1 − t) = σd tan τ. The consistency function is
f(x_τ, τ) = cos τ x_τ − σd sin τ F on TrigFlow's path, and x_t − t u(x_t, t, 0)
on the linear one.

Source: Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time
Consistency Models" (2024), https://arxiv.org/abs/2410.11081, section 3.
"""

import jax
import jax.numpy as jnp

from flowdistill.flow.transport import expand

Array = jax.Array


def linear_time(angle: Array, std: float) -> Array:
  """t = σd sin τ / (cos τ + σd sin τ)."""
  noise = std * jnp.sin(angle)
  return noise / (jnp.cos(angle) + noise)


def angle_of(t: Array, std: float) -> Array:
  """τ = atan2(t, σd (1 − t)), the inverse of `linear_time`."""
  return jnp.arctan2(t, std * (1 - t))


def to_linear(x: Array, angle: Array, std: float) -> Array:
  """x_τ [b, ...] -> x_t at t = linear_time(τ): x_τ / (cos τ + σd sin τ)."""
  return x / expand(jnp.cos(angle) + std * jnp.sin(angle), x)


def to_trigonometric(x_t: Array, t: Array, std: float) -> Array:
  """x_τ = x_t / √((1 − t)² + t² / σd²), the inverse of `to_linear`."""
  return x_t / expand(jnp.sqrt((1 - t) ** 2 + (t / std) ** 2), x_t)


def trigonometric_network(
  x: Array, angle: Array, u: Array, std: float
) -> Array:
  """F with cos τ x_τ − σd sin τ F = x_t − t u.

  sin τ cancels: F = [(cos τ − sin τ / σd) x_τ + u] / (cos τ + σd sin τ), which
  is finite at τ = 0.

  Args:
    x: x_τ [b, ...].
    angle: τ [b].
    u: u(x_t, t, 0) [b, ...], on the linear path.
    std: σd, standard deviation of the data.
  """
  cos, sin = (expand(f(angle), x) for f in (jnp.cos, jnp.sin))
  return ((cos - sin / std) * x + u) / (cos + std * sin)
