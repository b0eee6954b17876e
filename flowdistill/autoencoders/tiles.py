"""Large pictures of an autoencoder, decoded in overlapping tiles.

Tiles of latents are decoded one after the other, and blended linearly where
they overlap, so the memory is that of one tile and the picture. A layer that
sees all of its input, as attention and group norms do, sees only a tile: so the
picture is not that of one pass. It is for a decoder of each place by itself; a
convolution differs near the edge of a tile, where it sees zeros and has the
least weight.

In diffusers' `tiled_decode` the last tiles are cut instead of moved inwards.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Squares of latents.

  Attributes:
    side: of a tile; latents that are smaller are one tile.
    overlap: of two neighbours, less than the side.
  """

  side: int
  overlap: int

  def starts(self, size: int) -> list[int]:
    """Where the tiles of one axis begin; the last ends where the axis does."""
    if size <= self.side:
      return [0]
    steps = range(0, size - self.overlap, self.side - self.overlap)
    return [min(i, size - self.side) for i in steps]

  def weights(self, size: int, factor: int) -> np.ndarray:
    """Of the pixels of each tile along one axis, [tiles, pixels], float32.

    At every pixel those of all tiles add up to 1.
    """
    starts, side = self.starts(size), factor * min(self.side, size)
    middles = np.arange(side) + 0.5
    edge = np.minimum(middles, side - middles)
    ramp = np.minimum(1, edge / max(1, factor * self.overlap))
    total = np.zeros(factor * size)
    for i in starts:
      total[factor * i :][:side] += ramp
    parts = [ramp / total[factor * i :][:side] for i in starts]
    return np.stack(parts).astype(np.float32)


def decode_tiles(
  decode: Callable[[Array], Array], z: Array, tiles: Tiles, factor: int
) -> Array:
  """The picture of latents, of which one tile at a time is decoded.

  Args:
    decode: latents [b, h, w, c] -> pictures [b, factor h, factor w, channels],
      for any h and w.
    z: latents.
    tiles: their size.
    factor: the side of a picture over that of its latents.
  """
  b, *sides, channels = z.shape
  shape = b, *(min(tiles.side, size) for size in sides), channels
  if shape == z.shape:
    return decode(z)
  like = jax.eval_shape(decode, jax.ShapeDtypeStruct(shape, z.dtype))
  full = b, *(factor * size for size in sides), like.shape[-1]

  def add(picture: Array, place: tuple[Array, ...]) -> tuple[Array, None]:
    i, j, rows, columns = place
    tile = jax.lax.dynamic_slice(z, (0, i, j, 0), shape)
    x = decode(tile) * rows[:, None, None] * columns[:, None]
    at = 0, factor * i, factor * j, 0
    before = jax.lax.dynamic_slice(picture, at, x.shape)
    return jax.lax.dynamic_update_slice(picture, before + x, at), None

  places = places_of(sides, tiles, factor)
  return jax.lax.scan(add, jnp.zeros(full, like.dtype), places)[0]


def places_of(
  sides: Sequence[int], tiles: Tiles, factor: int
) -> tuple[Array, ...]:
  """Row and column of each tile [tiles], and weights of its pixels."""
  starts = [np.array(tiles.starts(size), np.int32) for size in sides]
  weights = [tiles.weights(size, factor) for size in sides]
  index = np.indices([len(each) for each in starts]).reshape(2, -1)
  first, second = (
    [each[i] for each, i in zip(of, index, strict=True)]
    for of in (starts, weights)
  )
  return tuple(map(jnp.asarray, (*first, *second)))
