import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.networks.unet_layers import BlockConfig, GroupNorm, add

CONFIG = BlockConfig(embedding=6, kind='biggan', dropout=0, dtype=None)
RNG = np.random.default_rng(0)


def test_each_group_has_mean_0_and_variance_1():
  h = RNG.normal(1e3, 5, size=(2, 8, 8, 24)).astype(np.float32)
  groups = np.asarray(GroupNorm(24, CONFIG)(h)).reshape(2, 64, 6, 4)
  np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-4)
  np.testing.assert_allclose(groups.std((1, 3)), 1, atol=1e-3)


def test_statistics_are_float32_whatever_comes_in():
  h = jnp.asarray(RNG.normal(size=(2, 4, 4, 8)), jnp.bfloat16)
  out = GroupNorm(8, CONFIG)(h)
  assert out.dtype == jnp.float32
  np.testing.assert_array_equal(
    out, GroupNorm(8, CONFIG)(h.astype(jnp.float32))
  )


@pytest.mark.parametrize(
  ('channels', 'groups'), [(4, 1), (8, 2), (96, 24), (128, 32), (288, 32)]
)
def test_groups_are_32_or_of_four_channels(channels, groups):
  assert GroupNorm(channels, CONFIG).groups == groups


@pytest.mark.parametrize('channels', [3, 34, 130])
def test_groups_that_do_not_divide_raise(channels):
  with pytest.raises(ValueError, match=f'^nf and ch_mult .* {channels} chan'):
    GroupNorm(channels, CONFIG)


@pytest.mark.parametrize('rescale', [False, True])
def test_a_rescaled_sum_of_two_keeps_the_variance(rescale):
  a, b = RNG.normal(size=(2, 100_000))
  variance = np.var(add(a, b, rescale=rescale))
  assert variance == pytest.approx(1 if rescale else 2, rel=0.02)
