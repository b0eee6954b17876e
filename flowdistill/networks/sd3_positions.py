"""The table of positions that Stable Diffusion 3 stores with its weights.

The table has a row for each place of a square grid. A grid of patches takes the
centre of it, so that pictures of all shapes have the same middle.

Source: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution
Image Synthesis" (2024), https://arxiv.org/abs/2403.03206, section 5.3.2.
"""

import jax
import jax.numpy as jnp

from flowdistill.networks.edm2_layers import Constant

Array = jax.Array
SPAN = 1e4  # the fastest frequency over the slowest


class Table(Constant):
  """An array that is stored, not trained, and no parameter: counted apart."""


def make_table(size: int, base: int, width: int) -> Table:
  """Positions of size x size places, row by row, [1, size², width].

  sin and cos of ω j, then of ω i, for row i and column j, each with width / 4
  frequencies ω = 1 .. 10⁻⁴ without the last. Places are at 0, base / size,
  2 base / size ...
  """
  step = base / size
  places = step * jnp.arange(size, dtype=jnp.float32)
  powers = jnp.arange(width // 4, dtype=jnp.float32) / (width // 4)
  angles = places[:, None] * SPAN**-powers
  waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
  shape = size, size, width // 2
  columns = jnp.broadcast_to(waves[None], shape)
  rows = jnp.broadcast_to(waves[:, None], shape)
  table = jnp.concatenate([columns, rows], axis=-1)
  return Table(table.reshape(1, size * size, width))


def crop(table: Array, grid: tuple[int, int], size: int) -> Array:
  """The centre of a table [1, size², width], for a grid of patches.

  Where the rest is odd, the centre is one row, or one column, nearer to 0.

  Returns:
    [1, rows · columns, width].
  """
  rows, columns = grid
  top, left = (size - rows) // 2, (size - columns) // 2
  square = table.reshape(size, size, -1)
  part = square[top : top + rows, left : left + columns]
  return part.reshape(1, rows * columns, -1)
