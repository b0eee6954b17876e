import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.resampling import (
  TAPS,
  Resample,
  double,
  filtered,
  halve,
)

FIR = pytest.mark.parametrize('fir', [False, True])
UP = pytest.mark.parametrize('up', [False, True])


def features(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_a_pixel_becomes_four_and_four_become_their_mean():
  x = jnp.arange(8.0).reshape(1, 2, 4, 1)
  larger = double(x, fir=False)
  np.testing.assert_array_equal(larger[0, :2, :4, 0], [[0, 0, 1, 1]] * 2)
  np.testing.assert_array_equal(halve(larger, fir=False), x)
  np.testing.assert_array_equal(halve(x, fir=False)[0, :, :, 0], [[2.5, 4.5]])


@FIR
def test_halving_is_doubling_transposed_over_four(fir):
  x, y = features(2, 4, 6, 3), features(2, 8, 12, 3, seed=1)
  here = jnp.vdot(double(x, fir=fir), y)
  assert abs(here) > 1
  np.testing.assert_allclose(
    here, 4 * jnp.vdot(x, halve(y, fir=fir)), rtol=1e-4
  )


def test_taps_keep_a_plane_away_from_the_border():
  rows, columns = jnp.mgrid[:8, :12]
  plane = (2.0 * rows - 3 * columns + 1)[None, :, :, None]
  inner = halve(plane, fir=True)[:, 1:-1, 1:-1]
  expected = halve(plane, fir=False)[:, 1:-1, 1:-1]
  np.testing.assert_allclose(inner, expected, atol=1e-5)
  steps = jnp.diff(double(plane, fir=True)[0, 1:-1, 1:-1, 0], axis=0)
  np.testing.assert_allclose(steps, 1.0, atol=1e-5)  # half of 2
  assert np.min(np.abs(jnp.diff(double(plane, fir=False)[0], axis=0))) == 0


def test_what_is_filtered_is_a_sum_over_taps():
  x = features(1, 5, 4, 2)
  zeros = np.pad(np.asarray(x), ((0, 0), (2, 2), (2, 2), (0, 0)))
  expected = sum(
    a * b * zeros[:, i : i + 6, j : j + 5]
    for i, a in enumerate(TAPS)
    for j, b in enumerate(TAPS)
  )
  np.testing.assert_allclose(filtered(x, padding=2), expected, atol=1e-6)


@pytest.mark.parametrize('padding', [1, 2, 3])
@pytest.mark.parametrize(('up', 'down'), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize('sides', [(5, 8), (4, 7)])
def test_the_taps_are_a_convolution_of_every_channel(sides, up, down, padding):
  def convolved(h):
    taps = jnp.asarray(np.outer(TAPS, TAPS) * up**2)[:, :, None, None]
    return jax.lax.conv_general_dilated(
      h,
      jnp.tile(taps, (1, 1, 1, 3)),
      (down, down),
      [(padding, padding)] * 2,
      lhs_dilation=(up, up),
      feature_group_count=3,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 3)))
    ours, pull = jax.vjp(
      lambda h: filtered(h, padding=padding, up=up, down=down), x
    )
    expected, pull_expected = jax.vjp(convolved, x)
    np.testing.assert_allclose(ours, expected, atol=1e-14)
    g = jnp.cos(jnp.arange(ours.size)).reshape(ours.shape)
    np.testing.assert_allclose(pull(g)[0], pull_expected(g)[0], atol=1e-14)


def test_the_taps_round_bfloat16_once():
  x = features(1, 6, 6, 2).astype(jnp.bfloat16)
  wide = filtered(x.astype(jnp.float32), padding=2, up=2)
  narrow = filtered(x, padding=2, up=2)
  np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))


@FIR
@UP
def test_the_side_is_twice_or_half(up, fir):
  layer = Resample(3, 5, up=up, fir=fir, rngs=nnx.Rngs(0))
  shape = (2, 8, 12, 5) if up else (2, 2, 3, 5)
  assert layer(features(2, 4, 6, 3)).shape == shape


@UP
def test_a_kernel_of_one_tap_only_resamples(up):
  layer = Resample(3, 3, up=up, fir=True, rngs=nnx.Rngs(0))
  kernel = np.zeros((3, 3, 3, 3), np.float32)
  kernel[1, 1] = np.eye(3)
  layer.fir_conv.kernel.set_value(jnp.asarray(kernel))
  layer.fir_conv.bias.set_value(jnp.arange(3.0))
  x = features(2, 4, 6, 3)
  expected = (double if up else halve)(x, fir=True) + jnp.arange(3.0)
  np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@UP
def test_convolution_and_taps_change_places(up):
  """Karras et al. convolve first on the way up: the answer is the same."""
  layer = Resample(2, 2, up=up, fir=True, rngs=nnx.Rngs(0))
  x, kernel = features(1, 4, 6, 2), layer.fir_conv.kernel[...]

  def convolved(h, padding, up=1):
    return jax.lax.conv_general_dilated(
      h,
      kernel,
      (1, 1),
      [(padding, padding)] * 2,
      lhs_dilation=(up, up),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  if up:
    expected = 4 * filtered(convolved(x, 2, up=2), padding=1)
  else:
    expected = filtered(convolved(x, 2), padding=2)[:, 2:-2:2, 2:-2:2]
  np.testing.assert_allclose(layer(x), expected, atol=1e-5)
