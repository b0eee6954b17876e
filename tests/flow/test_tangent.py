"""Derivatives along a direction, on flows whose derivatives are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defaults import defaults
from oracle import Gaussian, Mixture

from flowdistill.flow.tangent import TANGENTS, difference, jvp
from flowdistill.flow.transport import expand

FLOWS = pytest.mark.parametrize('flow', [Gaussian(0.5), Mixture()])
T, S = jnp.linspace(0.5, 0.9, 8), jnp.linspace(0.1, 0.4, 8)
X = np.random.default_rng(0).normal(size=(8, 2))


def at_the_start(flow):
  """u, a point and a direction along the path, and du/dt = (v − u) / (t − s).

  (t − s) u is the integral of v, differentiated along the path.
  """
  x, t, s = jnp.asarray(X), T.astype(X.dtype), S.astype(X.dtype)
  v, u = flow.velocity(x, t), flow.average_velocity(x, t, s)

  def at(x, t):
    return flow.average_velocity(x, t, s)

  return at, (x, t), (v, jnp.ones_like(t)), (v - u) / expand(t - s, x)


def at_the_end(flow):
  """u, a point and a direction in s, and ∂u/∂s = (v(f, s) − u) / (s − t)."""
  x, t, s = jnp.asarray(X), T.astype(X.dtype), S.astype(X.dtype)
  u, v = (
    flow.average_velocity(x, t, s),
    flow.velocity(flow.flow_map(x, t, s), s),
  )

  def at(s):
    return flow.average_velocity(x, t, s)

  return at, (s,), (jnp.ones_like(s),), (v - u) / expand(s - t, x)


BOTH_ENDS = pytest.mark.parametrize('case', [at_the_start, at_the_end])


@FLOWS
@BOTH_ENDS
@pytest.mark.usefixtures('x64')
def test_jvp_is_exact(flow, case):
  u, point, direction, exact = case(flow)
  primal, tangent = jvp(u, point, direction)
  np.testing.assert_array_equal(primal, u(*point))
  np.testing.assert_allclose(tangent, exact, rtol=1e-8, atol=1e-10)


@FLOWS
@BOTH_ENDS
@pytest.mark.usefixtures('x64')
def test_differences_are_of_order_two(flow, case):
  u, point, direction, exact = case(flow)

  def error(epsilon):
    primal, tangent = difference(u, point, direction, epsilon=epsilon)
    np.testing.assert_array_equal(primal, u(*point))
    return np.linalg.norm(tangent - exact)

  assert error(0.01) < 0.01 * np.linalg.norm(exact)
  assert error(0.02) / error(0.01) == pytest.approx(4, rel=0.05)


def test_a_point_in_bfloat16_moves_in_float32():
  """In bfloat16, whose step at 1 is 2⁻⁷, it would not move at all."""
  point = (jnp.ones(3, jnp.bfloat16),)
  primal, tangent = difference(lambda x: x**2, point, (jnp.ones(3),))
  assert (primal.dtype, tangent.dtype) == (jnp.bfloat16, jnp.float32)
  np.testing.assert_allclose(tangent, 2.0, rtol=1e-3)


def test_answers_in_bfloat16_are_subtracted_in_float32():
  """257 is no bfloat16, and the difference of 256 and −1 is."""

  def u(x):
    return jnp.where(x > 0, 256.0, -1.0).astype(jnp.bfloat16)

  point = jnp.zeros(1), jnp.ones(1)
  _, tangent = difference(u, point[:1], point[1:], epsilon=0.5)
  np.testing.assert_array_equal(tangent, 257.0)


@pytest.mark.parametrize('tangent', TANGENTS.values())
def test_a_gradient_flows_through_both_answers(tangent):
  """u = a x² along 1: u = a x² and 2 a x, of which the sum has x² + 2 x."""

  def total(a):
    point = jnp.float32(3.0), jnp.float32(1.0)
    return sum(tangent(lambda x: a * x**2, point[:1], point[1:]))

  assert jax.grad(total)(1.5) == pytest.approx(9 + 6, rel=1e-3)


@pytest.mark.parametrize('epsilon', [0.0, -1e-3, float('nan')])
def test_a_step_out_of_range_is_named(epsilon):
  with pytest.raises(ValueError, match=f'epsilon = {epsilon} must be above 0'):
    difference(abs, (jnp.ones(1),), (jnp.ones(1),), epsilon=epsilon)


def test_what_a_config_may_name():
  assert defaults(TANGENTS) == {'jvp': {}, 'difference': {'epsilon': 1e-3}}
