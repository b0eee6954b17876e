"""The circular and the linear path are one, up to a scale and a clock."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.flow import trigonometric as trig
from flowdistill.flow.transport import expand, interpolate

pytestmark = pytest.mark.usefixtures('x64')
STD = 0.5
T = np.linspace(0.0, 1.0, 9)


def pair():
  keys = jax.random.split(jax.random.key(0))
  return [jax.random.normal(key, (9, 3)) for key in keys]


def test_the_clocks_are_inverse_and_meet_at_the_ends():
  angle = trig.angle_of(T, STD)
  np.testing.assert_allclose(trig.linear_time(angle, STD), T, atol=1e-15)
  np.testing.assert_allclose(angle[jnp.array([0, -1])], [0, np.pi / 2])


def test_the_noise_level_is_the_same_at_both_clocks():
  angle = trig.angle_of(T[:-1], STD)
  np.testing.assert_allclose(STD * jnp.tan(angle), T[:-1] / (1 - T[:-1]))


def test_a_point_of_the_circle_is_a_point_of_the_line():
  """x_τ = cos τ x0 + sin τ σd x1 for the same x0, x1."""
  x0, x1 = pair()
  angle = expand(trig.angle_of(T, STD), x0)
  on_circle = jnp.cos(angle) * x0 + jnp.sin(angle) * STD * x1
  on_line = interpolate(x0, x1, T)
  angle = angle[:, 0]
  np.testing.assert_allclose(
    trig.to_linear(on_circle, angle, STD), on_line, atol=1e-14
  )
  np.testing.assert_allclose(
    trig.to_trigonometric(on_line, T, STD), on_circle, atol=1e-14
  )


def test_both_networks_give_the_same_consistency_function():
  """cos τ x_τ − σd sin τ F = x_t − t u, whatever u."""
  x, u = pair()
  angle = trig.angle_of(T, STD)
  F = trig.trigonometric_network(x, angle, u, STD)
  a = expand(angle, x)
  on_circle = jnp.cos(a) * x - STD * jnp.sin(a) * F
  on_line = trig.to_linear(x, angle, STD) - expand(T, x) * u
  np.testing.assert_allclose(on_circle, on_line, atol=1e-14)


def test_of_data_with_the_standard_deviation_the_network_is_zero():
  """x_τ then has one variance for all τ and does not move along the flow."""
  flow = Gaussian(std=STD)
  x = trig.to_trigonometric(pair()[0], T, STD)
  angle = trig.angle_of(T, STD)
  u = flow.average_velocity(trig.to_linear(x, angle, STD), T, jnp.zeros_like(T))
  F = trig.trigonometric_network(x, angle, u, STD)
  # dx/dτ = 0 on the path, so f = x_τ and σd sin τ F = (cos τ − 1) x_τ.
  a = expand(angle, x)
  np.testing.assert_allclose(
    STD * jnp.sin(a) * F, (jnp.cos(a) - 1) * x, atol=1e-14
  )
