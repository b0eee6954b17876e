import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.unet_blocks import (
  Attention,
  Blocks,
  GroupNorm,
  ResBlock,
  add,
)

OF = Blocks(
  embedding=6, kind='biggan', dropout=0, rescale=True, fir=False, dtype=None
)
RNG = np.random.default_rng(0)


def test_each_group_has_mean_0_and_variance_1():
  h = RNG.normal(1e3, 5, size=(2, 8, 8, 24)).astype(np.float32)
  groups = np.asarray(GroupNorm(24)(h)).reshape(2, 64, 6, 4)
  np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-4)
  np.testing.assert_allclose(groups.std((1, 3)), 1, atol=1e-3)


def test_statistics_are_float32_whatever_comes_in():
  h = jnp.asarray(RNG.normal(size=(2, 4, 4, 8)), jnp.bfloat16)
  out = GroupNorm(8)(h)
  assert out.dtype == jnp.float32
  np.testing.assert_array_equal(out, GroupNorm(8)(h.astype(jnp.float32)))


@pytest.mark.parametrize(
  ('channels', 'groups'), [(4, 1), (8, 2), (96, 24), (128, 32), (288, 32)]
)
def test_groups_are_32_or_of_four_channels(channels, groups):
  assert GroupNorm(channels).groups == groups


@pytest.mark.parametrize('channels', [3, 34, 130])
def test_groups_that_do_not_divide_raise(channels):
  with pytest.raises(ValueError, match=f'^nf and ch_mult .* {channels} chan'):
    GroupNorm(channels)


def test_attention_does_not_know_where_a_place_is():
  attention = Attention(8, OF, rngs=nnx.Rngs(0))
  attention.out.kernel.set_value(jnp.asarray(RNG.normal(size=(8, 8))))
  h = RNG.normal(size=(2, 3, 4, 8)).astype(np.float32)
  order = RNG.permutation(12)
  moved = h.reshape(2, 12, 8)[:, order].reshape(h.shape)
  out = np.asarray(attention(h)).reshape(2, 12, 8)
  there = np.asarray(attention(moved)).reshape(2, 12, 8)
  np.testing.assert_allclose(there, out[:, order], atol=1e-5)
  assert np.abs(out - h.reshape(out.shape) * 0.5**0.5).max() > 0.1


@pytest.mark.parametrize('rescale', [False, True])
def test_a_rescaled_sum_of_two_keeps_the_variance(rescale):
  a, b = RNG.normal(size=(2, 100_000))
  variance = np.var(add(a, b, rescale=rescale))
  assert variance == pytest.approx(1 if rescale else 2, rel=0.02)


@pytest.mark.parametrize('kind', ['biggan', 'ddpm'])
def test_a_fresh_block_is_its_skip(kind):
  """Its second convolution is zero: e has no effect, nor has the rest."""
  of = Blocks(
    embedding=6, kind=kind, dropout=0, rescale=False, fir=False, dtype=None
  )
  h = RNG.normal(size=(2, 4, 4, 8)).astype(np.float32)
  e = RNG.normal(size=(2, 6)).astype(np.float32)
  same = ResBlock(8, 8, of, rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(same(h, e), h)
  wider = ResBlock(8, 12, of, rngs=nnx.Rngs(0))
  np.testing.assert_allclose(wider(h, e), wider.skip(h), atol=1e-6)
