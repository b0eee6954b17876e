import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowdistill.flow.losses import (
  DISTANCES,
  adaptive,
  barron,
  l1,
  l2,
  mean_square,
  normalise_tangent,
  squared_norm,
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
  np.testing.assert_allclose(normalise_tangent(jnp.full((1, 4), 3.0), 0), 0.5)
  with pytest.raises(ValueError, match='c = -1 must'):
    normalise_tangent(g, -1)


def test_distances_are_means_over_an_example():
  x, y = jnp.arange(12.0).reshape(2, 3, 2), jnp.ones((2, 3, 2))
  np.testing.assert_allclose(mean_square(x), np.divide([55, 451], 6))
  l2_of_first, l1_of_first = 1 + 0 + 1 + 4 + 9 + 16, 1 + 0 + 1 + 2 + 3 + 4
  np.testing.assert_allclose(l2(x, y), np.divide([l2_of_first, 355], 6))
  np.testing.assert_allclose(l1(x, y), np.divide([l1_of_first, 45], 6))
  assert list(DISTANCES) == ['l2', 'l1']


@pytest.mark.parametrize(('p', 'power'), [(1.0, 0.0), (0.5, 1.0), (0.0, 2.0)])
def test_the_gradient_of_an_adaptive_loss_is_a_power(p, power):
  """Far from 0, that of ‖x‖^(2 − 2p): d/dx x² / (x² + c)^p ~ x^(1 − 2p)."""

  def slope(x):
    return jax.grad(lambda x: adaptive(x**2, p=p, c=1e-6))(x)

  ratio = slope(20.0) / slope(10.0)
  assert float(ratio) == pytest.approx(2 ** (power - 1), rel=1e-4)


def test_c_of_an_adaptive_loss_counts_near_zero():
  loss = adaptive(jnp.array([0.0, 0.5, 9.5]), p=1.0, c=0.5)
  np.testing.assert_allclose(loss, [0, 0.5, 0.95], rtol=1e-6)
  with pytest.raises(ValueError, match='c = 0 must'):
    adaptive(jnp.ones(1), p=1.0, c=0)


@pytest.mark.parametrize('x', [1e-3, 0.2, 3.0])
def test_barron_has_the_gradient_of_its_loss(x):
  """2 c ∂/∂x √(x²/c² + 1) = 2 x / √(x² + c²)."""
  slope = jax.grad(lambda x: barron(x**2, c=0.2))(x)
  assert float(slope) == pytest.approx(2 * x / (x**2 + 0.2**2) ** 0.5, rel=1e-5)
  with pytest.raises(ValueError, match='c = 0 must'):
    barron(jnp.ones(1), c=0)
