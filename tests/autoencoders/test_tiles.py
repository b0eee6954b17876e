"""Decoding in tiles: exact where each place is decoded by itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from autoencoders.test_kl import TINY, make, weights_of
from flax import nnx
from networks.features.loading import abstract, filled

from flowdistill.autoencoders.tiles import Tiles, decode_tiles

RNG = np.random.default_rng(0)
FACTOR = 2


def latents(h, w, channels=4):
  return jnp.asarray(RNG.normal(size=(1, h, w, channels)), jnp.float32)


def pointwise(z):
  """A decoder of each place by itself."""
  x = jnp.tanh(z[..., :3]) + z[..., 3:]
  return x.repeat(FACTOR, 1).repeat(FACTOR, 2)


@pytest.mark.parametrize('size', [1, 4, 5, 6, 7, 11])
@pytest.mark.parametrize('overlap', [0, 1, 2, 3])
def test_tiles_cover_and_their_weights_add_up_to_one(size, overlap):
  tiles = Tiles(4, overlap)
  starts, weights = tiles.starts(size), tiles.weights(size, FACTOR)
  side = min(4, size)
  assert starts[0] == 0
  assert starts[-1] + side == size
  assert all(0 < b - a <= 4 - overlap for a, b in itertools.pairwise(starts))
  total = np.zeros(FACTOR * size)
  for i, weight in zip(starts, weights, strict=True):
    total[FACTOR * i :][: FACTOR * side] += weight
  np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_neighbours_are_blended_linearly():
  """Over an overlap of 2 latents, 4 pixels: in steps of a quarter."""
  _, second = Tiles(4, 2).weights(6, FACTOR)
  np.testing.assert_allclose(second[:4], np.array([1, 3, 5, 7]) / 8)
  np.testing.assert_allclose(second[4:], 1)


@pytest.mark.parametrize('sides', [(3, 4), (4, 9), (11, 7)])
@pytest.mark.parametrize('overlap', [0, 2])
def test_what_is_decoded_place_by_place_is_exact(sides, overlap):
  z = latents(*sides)
  found = decode_tiles(pointwise, z, Tiles(4, overlap), FACTOR)
  np.testing.assert_allclose(found, pointwise(z), atol=1e-6)


def test_a_constant_picture_has_no_seams():
  z = jnp.ones((1, 9, 9, 4))
  found = np.asarray(decode_tiles(pointwise, z, Tiles(4, 1), FACTOR))
  np.testing.assert_allclose(found, found[0, 0, 0, 0], rtol=1e-6)


def autoencoder(**options):
  graph, params = abstract(lambda: make(**TINY, **options))
  return nnx.merge(graph, filled(params, weights_of(params)))


@pytest.mark.slow
def test_an_overlap_reduces_what_a_tile_does_not_see():
  """Group norm and attention see a tile; convolutions see zeros around it."""
  model, z = autoencoder(), latents(10, 10)
  whole = jax.jit(model.decode)(z)

  def off(overlap):
    tiles = Tiles(6, overlap)
    found = jax.jit(lambda z: decode_tiles(model.decode, z, tiles, FACTOR))(z)
    return float(jnp.sqrt(jnp.mean(jnp.square(found - whole))))

  none, third = off(0), off(2)
  assert 1e-3 < third < none


@pytest.mark.slow
def test_the_memory_is_that_of_a_tile_and_the_picture():
  """By the compiler; the whole at once needs that of all of its places."""
  model, tiles = autoencoder(), Tiles(8, 2)

  def temporaries(side, decode):
    z = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
    compiled = jax.jit(decode).lower(z).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  def tiled(z):
    return decode_tiles(model.decode, z, tiles, FACTOR)

  one = temporaries(8, model.decode)
  picture = 3 * 4 * (FACTOR * 32) ** 2
  large = temporaries(32, tiled)
  assert large < one + 4 * picture
  assert temporaries(32, model.decode) > 10 * large
