import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.resampling import double, halve
from flowdistill.networks.unet_blocks import ResBlock
from flowdistill.networks.unet_layers import BlockConfig

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('kind', ['adm', 'biggan', 'ddpm'])
def test_a_fresh_block_is_its_skip(kind):
  """Its second convolution is zero: e has no effect, nor has the rest."""
  config = BlockConfig(embedding=6, kind=kind, dropout=0, dtype=None)
  h = RNG.normal(size=(2, 4, 4, 8)).astype(np.float32)
  e = RNG.normal(size=(2, 6)).astype(np.float32)
  same = ResBlock(8, 8, config, rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(same(h, e), h)
  wider = ResBlock(8, 12, config, rngs=nnx.Rngs(0))
  np.testing.assert_allclose(wider(h, e), wider.skip(h), atol=1e-6)


@pytest.mark.parametrize('resize', [double, halve])
def test_a_fresh_block_of_adm_only_changes_the_side(resize):
  config = BlockConfig(embedding=6, kind='adm', dropout=0, dtype=None)
  block = ResBlock(8, 8, config, resize=resize.__name__, rngs=nnx.Rngs(0))
  h = RNG.normal(size=(2, 4, 4, 8)).astype(np.float32)
  assert block.skip is None
  new = block(h, RNG.normal(size=(2, 6)).astype(np.float32))
  np.testing.assert_array_equal(new, resize(h, fir=False))


def test_e_scales_and_shifts_after_the_second_norm():
  """e of scale -1 and shift c makes all before it c, whatever h is."""
  config = BlockConfig(embedding=1, kind='adm', dropout=0, dtype=None)
  block = ResBlock(4, 4, config, rngs=nnx.Rngs(0))
  block.conv_out.kernel.set_value(
    jnp.zeros((3, 3, 4, 4)).at[1, 1].set(jnp.eye(4))
  )
  block.shift.kernel.set_value(jnp.array([[-1.0] * 4 + [0.0, 1.0, 2.0, 3.0]]))
  h = RNG.normal(size=(2, 4, 4, 4)).astype(np.float32)
  new = block(h, np.ones((2, 1), np.float32)) - h
  expected = np.broadcast_to(nnx.silu(jnp.arange(4.0)), h.shape)
  np.testing.assert_allclose(new, expected, atol=1e-6)
