"""Rotary positions in a row or on a grid: attention depends on offsets alone.

In a row, pair k of a head's c channels turns by i ω for token i, with
ω = θ^(−2k / c). On a grid half of the pairs turn by i ω for row i of a token,
the other half by j ω for column j, with c / 4 frequencies ω = θ^(−4k / c).

Source: Su et al., "RoFormer" (2021), https://arxiv.org/abs/2104.09864, equation
15, with θ = 10 000; axes, and θ = 100 on a grid, as in Heo et al., "Rotary
Position Embedding for Vision Transformer" (2024),
https://arxiv.org/abs/2403.13298, section 3.2.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def angles_of(grid: tuple[int, int], size: int, theta: float) -> np.ndarray:
  """Of the tokens of a grid, row by row, [tokens, size / 2].

  Args:
    grid: rows and columns.
    size: channels of a head, a multiple of 4.
    theta: the longest wavelength is near 2π theta tokens.
  """
  frequencies = theta ** (-np.arange(size // 4) / (size // 4))
  i, j = (place.reshape(-1, 1) * frequencies for place in np.indices(grid))
  return np.concatenate([i, j], axis=-1)


def angles_in_row(length: int, size: int, theta: float) -> np.ndarray:
  """Of the tokens of a row, [length, size / 2].

  Args:
    length: number of tokens.
    size: channels of a head, a multiple of 2.
    theta: see `angles_of`.
  """
  frequencies = theta ** (-np.arange(size // 2) / (size // 2))
  return np.arange(length)[:, None] * frequencies


def rotate(x: Array, angles: np.ndarray) -> Array:
  """Turns channels k and k + c / 2 of x [..., n, c] by angles [n, c / 2]."""
  cos, sin = (jnp.asarray(f(angles), x.dtype) for f in (np.cos, np.sin))
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
