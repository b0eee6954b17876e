import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowdistill.flow.losses import (
  normalise_tangent,
  snr,
  squared_norm,
  uniform,
)

G = arrays(np.float32, (3, 2, 2), elements=st.floats(-9, 9, width=32))


def test_squared_norm_sums_over_all_axes_but_the_first():
  x = jnp.arange(12.0).reshape(2, 3, 2)
  np.testing.assert_allclose(squared_norm(x), [55, 451])
  np.testing.assert_allclose(squared_norm(jnp.ones(3)), np.ones(3))


@given(G, st.floats(0.01, 2))
def test_a_tangent_keeps_its_direction_and_is_shorter_than_one(g, c):
  out = normalise_tangent(jnp.asarray(g), c)
  length = np.sqrt(squared_norm(g))
  expected = length / (length + c)
  np.testing.assert_allclose(np.sqrt(squared_norm(out)), expected, rtol=1e-5)
  np.testing.assert_allclose(
    out * (length + c)[:, None, None], g, rtol=1e-5, atol=1e-6
  )


def test_a_tangent_of_zero_stays_zero():
  g = normalise_tangent(jnp.zeros((3, 2)), 0.1)
  np.testing.assert_array_equal(g, np.zeros((3, 2)))


def test_weights():
  t, s = jnp.array([0.25, 0.5, 1.0]), jnp.zeros(3)
  np.testing.assert_array_equal(uniform(t, s), np.ones(3))
  np.testing.assert_allclose(snr(t, s, offset=0.0), [9, 1, 0], rtol=1e-6)
  assert snr(jnp.zeros(1), s[:1]).item() == pytest.approx(1e6)
