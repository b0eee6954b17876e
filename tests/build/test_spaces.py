"""Autoencoders with the weights of a file, as a config names them."""

import jax
import numpy as np
import pytest
from autoencoders.test_kl import TINY, make, weights_of
from flax import nnx
from networks.features.loading import abstract, answers, filled
from safetensors.numpy import save_file

from flowdistill.autoencoders.kl import KLConfig
from flowdistill.autoencoders.tiles import Tiles, decode_tiles
from flowdistill.build.spaces import kl, make_tiles
from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError, bind
from flowdistill.config.protocols import Space
from flowdistill.config.resolve import resolve
from flowdistill.convert.kl import to_torch

SHAPE = (8, 12, 3)
SIZES = KLConfig(**TINY)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """(file, our arrays) of a tiny autoencoder."""
  file = tmp_path_factory.mktemp('weights') / 'vae.safetensors'
  _, params = abstract(lambda: make(**TINY))
  ours = weights_of(params)
  theirs = to_torch(ours).items()
  save_file({n: np.ascontiguousarray(a) for n, a in theirs}, file)
  return file, ours


def images(n):
  return np.random.default_rng(0).normal(size=(n, *SHAPE)).astype(np.float32)


@pytest.mark.slow
def test_scale_and_shift_of_each_channel(weights):
  file, ours = weights
  scale, shift = (0.5, 1.0, 2.0, 3.0), (0.1, 0.2, 0.3, 0.4)
  space = kl(
    SHAPE,
    path=str(file),
    sizes=SIZES,
    scaling_factor=scale,
    shift_factor=shift,
    batch_size=2,
  )
  assert space.shape == (4, 6, 4)
  x = images(5)  # the last batch is filled up
  z = space.encode(x)
  graph, params = abstract(lambda: make(**TINY))
  own = filled(params, ours)
  mean, log_variance = answers(graph, own, x, method='moments')
  wanted = (mean - np.float32(shift)) * np.float32(scale)
  np.testing.assert_allclose(z, wanted, atol=1e-4)
  moments = space.moments(x)
  np.testing.assert_allclose(moments[0], mean, atol=1e-4)
  np.testing.assert_allclose(
    moments[1], np.exp(log_variance / 2), rtol=1e-3, atol=1e-4
  )
  back = answers(graph, own, mean, method='decode')
  np.testing.assert_allclose(space.decode(z), back, atol=1e-3)
  on_device = space.decode(jax.device_put(z))
  np.testing.assert_allclose(on_device, back, atol=1e-3)


def test_the_network_may_see_pixels_in_another_range(weights):
  more = {'path': str(weights[0]), 'sizes': SIZES}
  plain, other = kl(SHAPE, **more), kl(SHAPE, pixel_range=(0.0, 1.0), **more)
  x = images(3)
  z = plain.encode(x / 2 + 0.5)
  np.testing.assert_allclose(other.encode(x), z, atol=1e-5)
  for found, wanted in zip(
    other.moments(x), plain.moments(x / 2 + 0.5), strict=True
  ):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    other.decode(z), 2 * plain.decode(z) - 1, atol=1e-4
  )


@pytest.mark.slow
def test_large_pictures_are_decoded_in_tiles(weights):
  file, ours = weights
  more = {'path': str(file), 'sizes': SIZES, 'scaling_factor': 0.5}
  space = kl(SHAPE, tile=8, tile_overlap=2, **more)
  z = space.encode(images(2))
  graph, params = abstract(lambda: make(**TINY))
  model = nnx.merge(graph, filled(params, ours))
  wanted = decode_tiles(model.decode, z / 0.5, Tiles(4, 1), 2)
  np.testing.assert_allclose(space.decode(z), wanted, atol=1e-4)
  at_once = kl(SHAPE, **more).decode(z)
  assert np.abs(space.decode(z) - at_once).max() > 1e-3
  assert make_tiles(512, None, 8) == Tiles(64, 16)


def test_a_config_has_the_sizes_as_options(weights):
  spec = {'name': 'kl', 'path': str(weights[0]), **TINY}
  resolved = resolve(spec, Space, 'space', ROOMS)
  assert resolved['block_out_channels'] == (8, 16)
  assert resolved['scaling_factor'] == 0.18215
  space = bind(resolved, Space, 'space', ROOMS)(SHAPE)
  space.check()
  assert space.shape == (4, 6, 4)
  assert len(space.digest()) == 64


def space_of(spec, shape=SHAPE):
  spec = resolve({'name': 'kl', **spec}, Space, 'space', ROOMS)
  return bind(spec, Space, 'space', ROOMS)(shape)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'path': ''}, r"config\.space\.path = '' must be the file"),
    ({'path': 'x', 'batch_size': 0}, r'space\.batch_size = 0 must be at least'),
    (
      {'path': 'x', 'scaling_factor': 0.0},
      r'space\.scaling_factor = 0.0 must be above 0',
    ),
    (
      {'path': 'x', 'scaling_factor': [1.0, 2.0]},
      r'scaling_factor = \(1.0, 2.0\) must be a number, or 4',
    ),
    (
      {'path': 'x', 'shift_factor': 1e300},
      'shift_factor = 1e.300 must be finite',
    ),
    (
      {'path': 'x', 'pixel_range': [1.0, 0.0]},
      r'pixel_range = \(1.0, 0.0\) must be two numbers, black and white',
    ),
    (
      {'path': 'x', 'norm_num_groups': 3},
      r'space\.block_out_channels = .* multiples of norm_num_groups = 3',
    ),
    (
      {'path': 'x', 'tile': 20},
      r'space\.tile = 20 must be a multiple of 8',
    ),
    ({'path': 'x', 'tile': 0}, r'space\.tile = 0 must be a multiple of 8'),
    (
      {'path': 'x', 'tile': 64, 'tile_overlap': 64},
      r'tile_overlap = 64 must be a multiple of 8 pixels below tile = 64',
    ),
    (
      {'path': 'x', 'tile_overlap': 8},
      r'space\.tile_overlap = 8 has no effect without a tile',
    ),
    ({'path': 'x', 'latent_chanels': 3}, "did you mean 'latent_channels'"),
    ({'path': 'x'}, 'sides, 8 x 12, must be multiples of 8'),
  ],
)
def test_options_that_cannot_be_are_refused(options, message):
  with pytest.raises(ConfigError, match=message):
    space_of(options)


def test_weights_that_do_not_fit_are_refused(weights, tmp_path):
  with pytest.raises(ValueError, match='there is no file'):
    space_of({'path': str(tmp_path / 'none'), **TINY}).check()
  more = {'path': str(weights[0]), **TINY}
  with pytest.raises(ValueError, match=r'vae\.safetensors: .* it must be \['):
    space_of({**more, 'latent_channels': 8}).check()
  with pytest.raises(ValueError, match='has no such array'):
    space_of({**more, 'use_quant_conv': False}).check()
  grey = space_of(more, (8, 8, 1))
  with pytest.raises(
    ValueError, match=r'conv_out\.bias of shape \[3\]; .* \[1\]'
  ):
    grey.check()
