"""The oracles themselves satisfy the equations that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture
from scipy.stats import norm

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


MIXTURE = Mixture()


def between(n: int = 64):
  """x [n, 2] and times t > s [n], at least 0.1 apart."""
  rng = np.random.default_rng(1)
  s = rng.uniform(high=0.9, size=n)
  t = s + rng.uniform(0.1, 1 - s)
  s[:8], t[8:16] = 0, 1
  return 2 * rng.normal(size=(n, 2)), jnp.array(t), jnp.array(s)


def below(x, t):
  """F_t(x), by another library."""
  t = np.asarray(t)[:, None]
  std = np.sqrt(MIXTURE.std**2 * (1 - t) ** 2 + t**2)
  centre = MIXTURE.mean * (1 - t)
  return (norm.cdf(x, -centre, std) + norm.cdf(x, centre, std)) / 2


def test_the_flow_map_of_the_mixture_keeps_the_quantile():
  x, t, s = between()
  for ends in ((t, s), (s, t)):
    f = MIXTURE.flow_map(x, *ends)
    np.testing.assert_allclose(below(f, ends[1]), below(x, ends[0]), atol=1e-14)
    assert (np.sign(f) == np.sign(x)).all()
  far = jnp.array([[-30.0], [0.0], [30.0]])
  t = jnp.ones(3)
  back = MIXTURE.flow_map(MIXTURE.flow_map(far, t, 0 * t), 0 * t, t)
  np.testing.assert_allclose(back, far, atol=1e-12)


def test_the_flow_map_of_the_mixture_solves_the_equation_of_its_velocity():
  """By finite differences, so that the test does not use its own JVP rule."""
  x, t, s = between()
  h = 1e-5
  ahead, behind = (MIXTURE.flow_map(x, t, s + d) for d in (h, -h))
  v = MIXTURE.velocity(MIXTURE.flow_map(x, t, s), s)
  np.testing.assert_allclose((ahead - behind) / (2 * h), v, atol=1e-8)


def test_the_average_velocity_of_the_mixture_is_that_of_its_flow_map():
  x, t, s = between()
  jump = flow_map(MIXTURE.average_velocity, x, t, s, None)
  np.testing.assert_allclose(jump, MIXTURE.flow_map(x, t, s), atol=1e-14)
  u, v = MIXTURE.average_velocity(x, t, t), MIXTURE.velocity(x, t)
  np.testing.assert_array_equal(u, v)


@pytest.mark.parametrize('apart', [True, False])
@pytest.mark.parametrize('which', [0, 1, 2])
def test_the_tangents_of_the_mixture_are_its_differences(which, apart):
  x, t, s = between()
  args = [jnp.asarray(x), t, s if apart else t]
  step = [jnp.zeros_like(a) for a in args]
  step[which] += 1.0
  _, tangent = jax.jvp(MIXTURE.average_velocity, args, step)
  h = 1e-5 if apart else 1e-3  # u divides by s − t

  def moved(by):
    return MIXTURE.average_velocity(
      *[a + by * d for a, d in zip(args, step, strict=True)]
    )

  difference = (moved(h) - moved(-h)) / (2 * h)
  np.testing.assert_allclose(tangent, difference, atol=1e-7 if apart else 3e-4)


def test_a_mixture_of_one_has_the_flow_map_of_a_gaussian():
  x, t, s = between()
  f = Mixture(mean=0.0, std=0.5).flow_map(x, t, s)
  np.testing.assert_allclose(f, FLOW.flow_map(x, t, s), atol=1e-14)
