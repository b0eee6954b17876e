import jax.numpy as jnp
import numpy as np
from flax import nnx

from flowdistill.networks.attention import Attention
from flowdistill.networks.unet_layers import Blocks

OF = Blocks(embedding=6, kind='biggan', dropout=0, dtype=None, rescale=True)
RNG = np.random.default_rng(0)


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
