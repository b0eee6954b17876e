"""Layers of a text: what a token sees of its neighbours."""

import jax
import numpy as np
from flax import nnx

from flowdistill.networks.text_layers import REACH, ShortConvolution

TOKENS, WIDTH = 12, 5


def made(seed=0):
  return ShortConvolution(WIDTH, rngs=nnx.Rngs(seed))


def tokens(seed=1):
  return jax.random.normal(jax.random.key(seed), (2, TOKENS, WIDTH))


def test_it_is_a_convolution_of_each_channel():
  layer, h = made(), np.asarray(tokens())
  found = np.asarray(layer(h, np.ones((2, TOKENS), bool)))
  kernel = np.asarray(layer.kernel[...])
  for row in range(2):
    for c in range(WIDTH):
      # That of numpy turns its kernel round.
      whole = np.convolve(h[row, :, c], kernel[::-1, c], mode='same')
      np.testing.assert_allclose(found[row, :, c], whole, atol=1e-6)


def test_only_real_tokens_within_reach_are_seen():
  layer, h = made(), tokens()
  real = np.ones((2, TOKENS), bool)
  real[:, 4] = False
  slope = jax.jacobian(lambda h: layer(h, real)[0, :, 0])(h)[:, 0, :, 0]
  near = abs(np.subtract.outer(range(TOKENS), range(TOKENS))) <= REACH
  np.testing.assert_array_equal(np.asarray(slope) != 0, near & real[0])


def test_padding_may_be_anything():
  layer, h = made(), np.array(tokens())
  real = np.arange(TOKENS)[None].repeat(2, 0) < 7
  found = np.asarray(layer(h, real))
  h[:, 7:] = np.nan
  np.testing.assert_array_equal(np.asarray(layer(h, real)), found)


def test_each_side_has_weights_of_its_own_and_so_has_each_channel():
  kernel = np.asarray(made().kernel[...])
  assert len(np.unique(kernel)) == kernel.size
  assert np.abs(kernel).max() <= (2 * REACH + 1) ** -0.5
