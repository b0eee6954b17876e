"""Weights of an example in the loss: w(t [b], s [b]) -> [b].

Source of the weights by signal-to-noise ratio: Zhu, Liu, Liu, "SlimFlow"
(2024), https://arxiv.org/abs/2407.12718, and its code, whose time is reversed;
earlier Salimans & Ho, "Progressive Distillation" (2022),
https://arxiv.org/abs/2202.00512, section 4.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

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

  The offset is that of SlimFlow's code; EDM and consistency models have 0.

  Raises:
    ValueError: if `offset` is negative.
  """
  del s
  _check_offset(offset)
  return jnp.square((1 - t) / (t + offset))


def inverse_snr(t: Array, s: Array, *, offset: float = 1e-3) -> Array:
  """1 / snr = ((t + offset) / (1 − t))², the noise-to-signal ratio at time t.

  1 − t is at least `offset`, so that the weight is finite at the noise;
  SlimFlow draws no times above 0.999.

  Raises:
    ValueError: if `offset` is negative.
  """
  del s
  _check_offset(offset)
  return jnp.square((t + offset) / jnp.maximum(1 - t, offset))


def snr_plus_one(t: Array, s: Array, *, offset: float = 1e-3) -> Array:
  """snr + 1."""
  return snr(t, s, offset=offset) + 1


def karras(
  t: Array, s: Array, *, offset: float = 1e-3, std: float = 0.5
) -> Array:
  """snr + 1 / std², which is EDM's weight of a denoiser; 1 / 0.5² = 4.

  Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
  Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 1.

  Raises:
    ValueError: if `std` is not above 0.
  """
  if not std > 0:
    raise ValueError(f'std = {std} must be above 0')
  return snr(t, s, offset=offset) + 1 / std**2


def truncated_snr(
  t: Array, s: Array, *, offset: float = 1e-3, floor: float = 1.0
) -> Array:
  """max(snr, floor)."""
  return jnp.maximum(snr(t, s, offset=offset), floor)


def square(t: Array, s: Array) -> Array:
  """t²: a loss on velocities becomes one on x̂0 = x_t − t v."""
  del s
  return jnp.square(t)


def tangent(t: Array, s: Array, *, period: float = 2.5) -> Array:
  """1 + tan((1 − (|t| − |s|)) π / period): short jumps count more.

  Source: Cheng et al., "TwinFlow" (2025), https://arxiv.org/abs/2512.05150.

  Raises:
    ValueError: unless `period` is above 2, so that the tangent is finite.
  """
  if not period > 2:
    raise ValueError(f'period = {period} must be above 2')
  gap = jnp.abs(t) - jnp.abs(s)
  return 1 + jnp.tan((1 - gap) * jnp.pi / period)


def _check_offset(offset: float) -> None:
  if not 0 <= offset < float('inf'):
    raise ValueError(f'offset = {offset} must be at least 0, and finite')


WEIGHTS = {
  'uniform': uniform,
  'snr': snr,
  'inverse_snr': inverse_snr,
  'snr_plus_one': snr_plus_one,
  'karras': karras,
  'truncated_snr': truncated_snr,
  'square': square,
  'tangent': tangent,
}
