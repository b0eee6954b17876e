"""Patches and tokens."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.networks.token_layers import (
  by_heads,
  joined,
  modulate,
  on_rows,
  patchify,
  rms_norm,
  unpatchify,
)


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


def test_heads_are_split_and_joined():
  x = np.arange(2 * 3 * 12.0).reshape(2, 3, 12)
  q, k = by_heads(jnp.asarray(x), 2, 2)
  np.testing.assert_array_equal(q[1, 0, 2], x[1, 2, :3])
  np.testing.assert_array_equal(k[1, 1, 2], x[1, 2, 9:])
  (whole,) = by_heads(jnp.asarray(x), 3, 1)
  np.testing.assert_array_equal(joined(whole), x)


def test_rms_norm_has_a_root_mean_square_of_its_scale():
  x = np.random.default_rng(0).normal(3, 5, size=(2, 4, 64))
  out = np.asarray(rms_norm(x, jnp.full(64, 2.0)))
  np.testing.assert_allclose(np.sqrt(np.mean(out**2, -1)), 2, rtol=1e-5)
  np.testing.assert_allclose(rms_norm(7 * x, jnp.full(64, 2.0)), out, rtol=1e-5)


def test_rows_are_all_tokens():
  h = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
  np.testing.assert_array_equal(
    on_rows(lambda rows: rows + jnp.arange(6)[:, None], h),
    h + np.arange(6, dtype=np.float32).reshape(2, 3, 1),
  )
