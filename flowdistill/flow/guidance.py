"""Guidance: combinations of two velocities that move away from the worse."""

import jax

Array = jax.Array


def autoguidance(v: Array, weak: Array, scale: Array | float) -> Array:
  """λ v + (1 − λ) v_weak: what the better network has over a weaker one.

  Source: Karras et al., "Guiding a Diffusion Model with a Bad Version of
  Itself" (2024), https://arxiv.org/abs/2406.02507, eq. 3.

  Args:
    v: velocity of the network, [b, ...].
    weak: velocity of a smaller or less trained one, [b, ...].
    scale: λ; 1 is v alone.
  """
  return scale * v + (1 - scale) * weak
