"""Layers with an equalised learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.equalised import (
  EqualisedConv,
  EqualisedLinear,
  activated,
)


def test_a_linear_layer_is_he_s_constant_times_a_standard_normal():
  layer = EqualisedLinear(400, 300, rngs=nnx.Rngs(0))
  kernel = np.asarray(layer.kernel[...])
  assert kernel.std() == pytest.approx(1, abs=0.01)
  assert not np.any(layer.bias[...])
  x = np.random.default_rng(0).normal(size=(50, 400)).astype(np.float32)
  y = np.asarray(layer(jnp.asarray(x)))
  np.testing.assert_allclose(y, x @ kernel / 20, atol=1e-4)
  assert y.std() == pytest.approx(1, abs=0.05)


def test_a_convolution_divides_by_the_root_of_its_fan_in():
  conv = EqualisedConv(4, 2, 3, rngs=nnx.Rngs(0))
  conv.bias[...] = jnp.array([0.5, -1.0])
  h = jnp.ones((1, 5, 5, 4))
  inside = conv(h)[0, 2, 2]
  expected = conv.kernel[...].sum((0, 1, 2)) / 6 + conv.bias[...]
  np.testing.assert_allclose(inside, expected, rtol=1e-5)
  assert conv(h).shape == (1, 5, 5, 2)


def test_without_a_bias_of_stride_two():
  conv = EqualisedConv(
    1, 1, 1, stride=2, padding='VALID', bias=False, rngs=nnx.Rngs(0)
  )
  h = jnp.arange(25.0).reshape(1, 5, 5, 1)
  expected = conv.kernel[0, 0, 0, 0] * h[:, ::2, ::2]
  np.testing.assert_allclose(conv(h), expected)
  assert set(nnx.to_flat_state(nnx.split(conv)[1]).paths) == {('kernel',)}


@pytest.mark.slow
def test_in_bfloat16_the_operands_are_rounded_and_the_result_is_float32():
  def made(dtype):
    conv = EqualisedConv(3, 4, 3, dtype=dtype, rngs=nnx.Rngs(0))
    linear = EqualisedLinear(4, 5, dtype=dtype, rngs=nnx.Rngs(1))
    h = conv(jax.random.normal(jax.random.key(0), (2, 4, 4, 3)))
    return linear(h)

  exact, rounded = made(None), made(jnp.bfloat16)
  assert rounded.dtype == jnp.float32
  assert 0 < float(jnp.max(jnp.abs(exact - rounded))) < 0.05


def test_the_activation_preserves_the_mean_square_of_a_normal():
  """E a² = 2 (1 + 0.04) / 2 for h ~ N(0, 1)."""
  h = jax.random.normal(jax.random.key(0), (100_000,))
  assert float(jnp.square(activated(h)).mean()) == pytest.approx(1.04, abs=0.02)
  np.testing.assert_allclose(
    activated(jnp.array([1.0, -1.0])), [2**0.5, -0.2 * 2**0.5], rtol=1e-6
  )
