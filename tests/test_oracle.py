"""The oracles themselves: they solve the equations that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture

from flowdistill.flow.transport import flow_map

pytestmark = pytest.mark.usefixtures('x64')
FLOW = Gaussian(std=0.5)


def points(n: int = 64):
  """x [n, 2] and times t >= s [n], some of them equal, some at the ends."""
  rng = np.random.default_rng(0)
  times = np.sort(rng.uniform(size=(n, 2)))
  times[:4] = [[0, 1], [0.3, 0.3], [0, 0], [1, 1]]
  return rng.normal(size=(n, 2)), jnp.array(times[:, 1]), jnp.array(times[:, 0])


def test_the_flow_map_solves_the_equation_of_the_velocity():
  x, t, s = points()
  f, df_ds = jax.jvp(
    lambda s: FLOW.flow_map(x, t, s), (s,), (jnp.ones_like(s),)
  )
  np.testing.assert_allclose(df_ds, FLOW.velocity(f, s), atol=1e-13)
  np.testing.assert_array_equal(FLOW.flow_map(x, t, t), x)


def test_the_average_velocity_is_that_of_the_flow_map():
  x, t, s = points()
  jump = flow_map(FLOW.average_velocity, x, t, s, None)
  np.testing.assert_allclose(jump, FLOW.flow_map(x, t, s), atol=1e-13)


def test_the_average_velocity_over_no_time_is_the_velocity():
  x, t, _ = points()
  u, v = FLOW.average_velocity(x, t, t), FLOW.velocity(x, t)
  np.testing.assert_allclose(u, v, atol=1e-13)


def test_a_mixture_of_one_is_a_gaussian():
  x, t, _ = points()
  v = Mixture(mean=0.0, std=0.5).velocity(x[:, :1], t)
  np.testing.assert_allclose(v, FLOW.velocity(x[:, :1], t), atol=1e-13)


@pytest.mark.parametrize('t', [0.2, 0.7])
def test_the_mixture_velocity_is_the_mean_of_x1_minus_x0_at_a_point(t):
  """Averages x1 − x0 over the pairs whose line passes close to x at time t."""
  flow, rng = Mixture(), np.random.default_rng(0)
  x0, x1 = flow.draw(rng, 200_000), rng.normal(size=(200_000, 1))
  x_t = (1 - t) * x0 + t * x1
  for x in (-1.0, 0.3, 0.8):
    near = (x1 - x0)[np.abs(x_t - x) < 0.02]
    v = flow.velocity(jnp.full((1, 1), x), jnp.full(1, t)).item()
    error = near.std() / len(near) ** 0.5
    assert abs(near.mean() - v) < 4 * error
    assert error < 0.05  # of velocities about 1
