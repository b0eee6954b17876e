"""Weights that ship: saved in half precision, and read without pickles."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flowdistill.networks.shipped_weights import load_weights, save_weights


def test_what_is_saved_is_loaded_in_half_precision(tmp_path):
  path = tmp_path / 'weights.npz'
  one, other = (nnx.Linear(3, 2, rngs=nnx.Rngs(k)) for k in (0, 1))
  save_weights(one, path)
  loaded = load_weights(lambda: other, path)
  for name in ('kernel', 'bias'):
    found, wanted = (getattr(net, name)[...] for net in (loaded, one))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, np.asarray(wanted, np.float16))
