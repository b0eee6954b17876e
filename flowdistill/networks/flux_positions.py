"""The tokens of FLUX.1: packed latents, and rotary positions of three axes.

A token of the picture is at (0, row, column) of the packed grid, one of the
text at (0, 0, 0). Each axis has its own channels of a head, in adjacent pairs
that turn by p θ^(−2k / d) for position p and pair k of d channels.

Source: Su et al., "RoFormer" (2021), https://arxiv.org/abs/2104.09864; axes and
θ: https://github.com/black-forest-labs/flux.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
THETA = 1e4
PACK = 2  # height and width of a token, in latents


def positions(text: int, grid: tuple[int, int]) -> np.ndarray:
  """Of the tokens, text first, then the picture row by row, [n, 3]."""
  i, j = (place.reshape(-1) for place in np.indices(grid))
  picture = np.stack([np.zeros_like(i), i, j], axis=-1)
  return np.concatenate([np.zeros((text, 3), i.dtype), picture])


def angles_of(places: np.ndarray, axes: Sequence[int]) -> np.ndarray:
  """Positions [n, axes] -> angles [n, Σ axes / 2], float64.

  Args:
    places: of the tokens.
    axes: channels of a head for each axis, even.
  """
  parts = [
    places[:, [axis]] * THETA ** (-np.arange(0, size, 2) / size)
    for axis, size in enumerate(axes)
  ]
  return np.concatenate(parts, axis=-1)


def rotate(x: Array, angles: np.ndarray) -> Array:
  """Turns channels 2k and 2k + 1 of x [..., n, c] by angles [n, c / 2]."""
  cos, sin = (jnp.asarray(f(angles), x.dtype) for f in (np.cos, np.sin))
  pairs = x.reshape(*x.shape[:-1], -1, 2)
  a, b = pairs[..., 0], pairs[..., 1]
  turned = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
  return turned.reshape(x.shape)


def pack(x: Array) -> Array:
  """Latents [b, h, w, c] -> tokens [b, (h / 2)(w / 2), 4 c], row by row.

  The features of a token are by channel, then by row and column in 2 x 2.
  """
  b, h, w, c = x.shape
  x = x.reshape(b, h // PACK, PACK, w // PACK, PACK, c)
  return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, -1, c * PACK * PACK)


def unpack(x: Array, grid: tuple[int, int]) -> Array:
  """The inverse of `pack`, for a grid of (h / 2, w / 2) tokens."""
  b, (h, w) = len(x), grid
  x = x.reshape(b, h, w, -1, PACK, PACK)
  return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * PACK, w * PACK, -1)
