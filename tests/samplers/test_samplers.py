"""Samplers on flows that are known: order, exactness, marginals, cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture

from flowdistill.samplers import SAMPLERS, euler, flow_map, gamma, heun, rk4
from flowdistill.samplers.grids import shifted, uniform
from flowdistill.samplers.integrate import sample, steps_for
from flowdistill.samplers.sampler import one_state

FLOW = Gaussian(std=0.5)
LINE = np.linspace(-2.5, 2.5, 11)[:, None]


def keys(n: int):
  return jax.random.split(jax.random.key(0), n)


def solve(sampler, grid, x1=None):
  x1 = jnp.asarray(LINE if x1 is None else x1)
  return sample(sampler, grid, x1, keys(len(x1)))


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(
  ('flow', 'make_grid'), [(FLOW, uniform), (Mixture(), shifted)]
)
def test_order_of_convergence(flow, make_grid):
  """The slope of the error over the step, between 40 and 80 steps."""
  exact = solve(rk4(flow.average_velocity), uniform(1000))
  if flow is FLOW:
    np.testing.assert_allclose(exact, 0.5 * LINE, atol=1e-11)

  def error(make, steps):
    x0 = solve(make(flow.average_velocity), make_grid(steps))
    return np.max(np.abs(x0 - exact))

  for make, order in ((euler, 1), (heun, 2), (rk4, 4)):
    coarse, fine = error(make, 40), error(make, 80)
    assert fine > 1e-10  # far above what float64 can resolve
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.2), make


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('steps', [1, 2, 5])
def test_jumps_along_the_exact_flow_map_end_where_one_jump_does(steps):
  for sampler in (flow_map, lambda u: gamma(u, gamma=0.0)):
    x0 = solve(sampler(FLOW.average_velocity), shifted(steps))
    np.testing.assert_allclose(x0, 0.5 * LINE, atol=1e-14)


def circulating_rule(u):
  """x_s = f(x_t, t, s) + γ √(t² − s²) ε at γ = 0.9, which FACTS refutes."""

  def step(x, t, s, keys):
    at = jnp.full(len(x), t), jnp.full(len(x), s)
    x_s = x + (s - t) * u(x, *at)
    noise = jax.random.normal(jax.random.key(1), x.shape)
    return x_s + 0.9 * jnp.sqrt(t**2 - s**2) * noise

  return one_state(step, nfe=lambda steps: steps)


def excess(step, grid) -> float:
  """Of the variance at the end of the grid, in its standard errors."""
  n = 200_000
  x = jax.random.normal(jax.random.key(7), (n, 1))
  carry = (jnp.sqrt(FLOW.variance(grid[0])) * x,)
  keys_of_steps = jax.random.split(jax.random.key(8), (len(grid), n))
  for t, s, key in zip(grid, grid[1:], keys_of_steps, strict=False):
    carry = step(carry, t, s, key)
  expected = FLOW.variance(grid[-1])
  return (np.var(carry[0]) - expected) / (expected * (2 / n) ** 0.5)


@pytest.mark.parametrize('g', [0.0, 0.5, 0.9, 1.0])
def test_gamma_sampling_keeps_the_marginal(g):
  """At the data, in one, two and four steps, and on the way."""
  step = jax.jit(gamma(FLOW.average_velocity, gamma=g).step)
  for grid in (uniform(1), uniform(2), uniform(4), np.array([0.9, 0.6, 0.4])):
    assert abs(excess(step, grid)) < 4


def test_the_noise_of_every_step_is_fresh():
  """What is left of a u that always jumps to 0 is the last step's noise."""
  seen = []

  def u(x, t, s):
    jax.debug.callback(seen.append, x[0], ordered=True)
    return x / jnp.maximum(t, 0.1)[:, None]

  solve(gamma(u, gamma=1.0), uniform(4))
  jax.effects_barrier()
  noise = np.ravel(seen)[1:] / [0.75, 0.5, 0.25]
  assert len(np.unique(noise.round(3))) == 3


def test_the_check_of_the_marginal_refutes_the_rule_that_circulates():
  sampler = circulating_rule(FLOW.average_velocity)
  assert excess(sampler.step, np.array([0.9, 0.4])) > 100


@pytest.mark.parametrize('g', [-0.1, 1.1, float('nan')])
def test_gamma_out_of_range_raises(g):
  with pytest.raises(ValueError, match=rf'gamma is {g}.*\[0, 1\]'):
    gamma(FLOW.average_velocity, gamma=g)


def ask(sampler_name, steps, **options):
  """The sampler, and the times (t, s) of the calls that it really makes."""
  asked = []

  def u(x, t, s):
    assert t.shape == s.shape == x.shape[:1]
    times = jnp.stack([t[0], s[0]])
    jax.debug.callback(asked.append, times, ordered=True)
    return FLOW.average_velocity(x, t, s)

  sampler = SAMPLERS[sampler_name](u, **options)
  jax.block_until_ready(solve(sampler, uniform(steps)))
  jax.effects_barrier()
  return sampler, np.asarray(asked)


@pytest.mark.parametrize('steps', [1, 4])
@pytest.mark.parametrize('name', SAMPLERS)
def test_every_network_call_is_counted(name, steps):
  sampler, asked = ask(name, steps)
  assert len(asked) == sampler.nfe(steps)
  assert steps_for(sampler.nfe, len(asked)) == steps


def test_the_times_that_are_asked():
  _, asked = ask('heun', 2)
  np.testing.assert_array_equal(asked, [[1, 1], [0.5, 0.5], [0.5, 0.5]])
  _, asked = ask('rk4', 1)
  np.testing.assert_array_equal(asked[:, 0], [1, 0.5, 0.5, 0])
  np.testing.assert_array_equal(asked[:, 0], asked[:, 1])
  _, asked = ask('flow_map', 2)
  np.testing.assert_array_equal(asked, [[1, 0.5], [0.5, 0]])
  _, asked = ask('gamma', 2, gamma=1.0)  # always to the data
  np.testing.assert_array_equal(asked, [[1, 0], [0.5, 0]])
  _, asked = ask('gamma', 2, gamma=0.6)  # σ(r) = 0.8 σ(0.5) = 0.8
  np.testing.assert_allclose(asked, [[1, 0.8 / 1.8], [0.5, 0]], rtol=1e-6)


@pytest.mark.parametrize(
  ('name', 'nfe', 'nearest'),
  [
    ('heun', 8, '7 or 9'),
    ('rk4', 10, '8 or 12'),
    ('rk4', 3, '4'),
    ('euler', 0, '1'),
    ('flow_map', -3, '1'),
  ],
)
def test_an_impossible_nfe_names_the_nearest(name, nfe, nearest):
  sampler = SAMPLERS[name](FLOW.average_velocity)
  with pytest.raises(ValueError, match=f'nfe is {nfe},.*nearest is {nearest}$'):
    steps_for(sampler.nfe, nfe)


@pytest.mark.parametrize('name', ['heun', 'gamma'])
def test_no_example_depends_on_its_neighbours(name):
  sampler = SAMPLERS[name](FLOW.average_velocity)
  run = jax.jit(lambda x1, keys: sample(sampler, uniform(3), x1, keys))
  x1 = np.random.default_rng(0).normal(size=(6, 2, 2, 1)).astype(np.float32)
  mixed = np.array([3, 1, 5, 5, 0, 2])
  whole, part = run(x1, keys(6)), run(x1[mixed], keys(6)[mixed])
  np.testing.assert_allclose(part, whole[mixed], rtol=1e-6)
