import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.dit import DiT, modulate, patchify, unpatchify


@given(
  st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)
)
def test_unpatchify_undoes_patchify(patch, rows, columns, channels):
  x = np.random.default_rng(0).normal(
    size=(2, rows * patch, columns * patch, channels)
  )
  patches = patchify(x, patch)
  assert patches.shape == (2, rows * columns, patch * patch * channels)
  np.testing.assert_array_equal(unpatchify(patches, (rows, columns), patch), x)


def test_patches_go_by_rows_and_hold_neighbours():
  x = np.arange(24).reshape(1, 4, 6, 1)
  np.testing.assert_array_equal(patchify(x, 2)[0, 0], [0, 1, 6, 7])
  np.testing.assert_array_equal(patchify(x, 2)[0, 1], [2, 3, 8, 9])
  np.testing.assert_array_equal(patchify(x, 2)[0, 3], [12, 13, 18, 19])


def test_modulate_normalises_each_token():
  h = np.random.default_rng(0).normal(3, 5, size=(2, 4, 64))
  out = np.asarray(modulate(h, jnp.zeros((2, 1, 64)), jnp.zeros((2, 1, 64))))
  np.testing.assert_allclose(out.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(out.std(-1), 1, atol=1e-3)
  shifted = modulate(h, jnp.full((2, 1, 64), 0.5), jnp.ones((2, 1, 64)))
  np.testing.assert_allclose(shifted, 2 * out + 0.5, atol=1e-5)


@pytest.mark.parametrize(
  ('shape', 'options', 'message'),
  [
    ((8, 8, 1), {'patch': 3}, 'patch = 3 does not divide 8 x 8'),
    ((8, 6, 1), {'patch': 4}, 'patch = 4 does not divide 8 x 6'),
    (
      (8, 8, 1),
      {'width': 64, 'heads': 5},
      'heads = 5 does not divide width = 64',
    ),
  ],
)
def test_what_does_not_divide_raises(shape, options, message):
  with pytest.raises(ValueError, match=message):
    DiT(DataSpec.labelled(shape, 10), **options, rngs=nnx.Rngs(0))
