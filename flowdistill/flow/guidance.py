"""Guidance: extrapolation away from a worse velocity, by a scale λ.

Classifier-free guidance and autoguidance are one formula: the worse velocity
is that of the same network without its condition, or of a weaker network.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

Array = jax.Array


class ScaleLaw(Protocol):
  """law(key, n) -> λ [n]."""

  def __call__(self, key: Array, n: int, /) -> Array: ...


def extrapolate(v: Array, worse: Array, scale: Array | float) -> Array:
  """λ v + (1 − λ) v_worse, which for λ > 1 moves v away from the worse one.

  Source: Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022),
  https://arxiv.org/abs/2207.12598, eq. 6 (where λ = 1 + w); Karras et al.,
  "Guiding a Diffusion Model with a Bad Version of Itself" (2024),
  https://arxiv.org/abs/2406.02507, eq. 3.

  Args:
    v: velocity of the better network, [b, ...].
    worse: velocity of the worse one, [b, ...].
    scale: λ, a number or an array that broadcasts against v; 1 is v alone.
  """
  return scale * v + (1 - scale) * worse


def fixed(key: Array, n: int, *, scale: float = 1.5) -> Array:
  """λ is the same for every example."""
  del key
  return jnp.full((n,), scale, jnp.float32)


def uniform(
  key: Array, n: int, *, low: float = 1.0, high: float = 3.0
) -> Array:
  """λ ~ U[low, high), drawn for every example.

  Source: Align Your Flow (2025), https://arxiv.org/abs/2506.14603, section 3.3.

  Raises:
    ValueError: unless low < high.
  """
  if not low < high:
    raise ValueError(f'high = {high} must be above low = {low}')
  return jax.random.uniform(key, (n,), minval=low, maxval=high)


GUIDANCE = {'fixed': fixed, 'uniform': uniform}
