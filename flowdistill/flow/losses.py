"""Norms and weights of a residual, per example: [b, ...] -> [b]."""

from typing import Protocol

import jax
import jax.numpy as jnp

from flowdistill.flow.transport import expand

Array = jax.Array


class Weight(Protocol):
  """w(t [b], s [b]) -> [b], the weight of an example in the loss."""

  def __call__(self, t: Array, s: Array, /) -> Array: ...


def uniform(t: Array, s: Array) -> Array:
  """Every example counts the same."""
  del s
  return jnp.ones_like(t)


def snr(t: Array, s: Array, *, offset: float = 1e-3) -> Array:
  """((1 − t) / (t + offset))², the signal-to-noise ratio at time t.

  Source: Zhu, Liu, Liu, "SlimFlow" (2024), https://arxiv.org/abs/2407.12718.

  Raises:
    ValueError: if `offset` is negative.
  """
  if offset < 0:
    raise ValueError(f'offset = {offset} must be at least 0')
  del s
  return jnp.square((1 - t) / (t + offset))


WEIGHTS = {'uniform': uniform, 'snr': snr}


def squared_norm(x: Array) -> Array:
  """‖x‖², summed over all axes but the first: [b, ...] -> [b]."""
  return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))


def normalise_tangent(g: Array, c: float) -> Array:
  """g / (‖g‖₂ + c), the norm over all axes of an example but the first.

  Source: Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time
  Consistency Models" (2024), https://arxiv.org/abs/2410.11081, section 4.2;
  Align Your Flow, Algorithm 1, line 9.

  Raises:
    ValueError: if `c` is negative.
  """
  if c < 0:
    raise ValueError(f'c = {c} must be at least 0')
  return g / (expand(jnp.sqrt(squared_norm(g)), g) + c)
