import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.unet_blocks import ResBlock
from flowdistill.networks.unet_layers import Blocks

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('kind', ['biggan', 'ddpm'])
def test_a_fresh_block_is_its_skip(kind):
  """Its second convolution is zero: e has no effect, nor has the rest."""
  of = Blocks(embedding=6, kind=kind, dropout=0, dtype=None)
  h = RNG.normal(size=(2, 4, 4, 8)).astype(np.float32)
  e = RNG.normal(size=(2, 6)).astype(np.float32)
  same = ResBlock(8, 8, of, rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(same(h, e), h)
  wider = ResBlock(8, 12, of, rngs=nnx.Rngs(0))
  np.testing.assert_allclose(wider(h, e), wider.skip(h), atol=1e-6)
