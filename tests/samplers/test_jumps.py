"""Samplers that jump and add noise: they keep the marginals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture
from scipy import stats
from solving import LINE, keys, linear_step, solve

from flowdistill.samplers import SAMPLERS
from flowdistill.samplers.grids import shifted, uniform
from flowdistill.samplers.jumps import gamma, jump_renoise
from flowdistill.samplers.sampler import fresh_noise, one_state

FLOW = Gaussian(std=0.5)
NOISY = [
  ('consistency', {}),
  *(('gamma', {'gamma': g}) for g in (0.0, 0.5, 0.9, 1.0)),
  *(('jump_renoise', {'gamma': g}) for g in (0.0, 0.5, 0.9, 1.0)),
  ('few', {'stochasticity': 1.0}),
]


def variance_at_s(sampler, t, s):
  """Of x_s, if x_t has the variance of the flow."""
  a, b = linear_step(sampler, t, s)
  return a**2 * FLOW.variance(t) + b**2


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(('name', 'options'), NOISY)
def test_a_step_keeps_the_marginal(name, options):
  sampler = SAMPLERS[name](FLOW.average_velocity, **options)
  for t, s in ((1.0, 0.5), (0.9, 0.4), (0.3, 0.29), (1.0, 0.0), (0.2, 0.0)):
    wanted = FLOW.variance(s)
    assert variance_at_s(sampler, t, s) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.usefixtures('x64')
def test_the_rule_that_circulates_does_not():
  """x_s = f(x_t, t, s) + γ √(t² − s²) ε, at γ = 0.9 from 0.9 to 0.4."""

  def step(x, t, s, keys):
    at = jnp.full(len(x), t), jnp.full(len(x), s)
    x_s = x + (s - t) * FLOW.average_velocity(x, *at)
    return x_s + 0.9 * jnp.sqrt(t**2 - s**2) * fresh_noise(keys, x)

  variance = variance_at_s(one_state(step), 0.9, 0.4)
  assert variance == pytest.approx(0.78, abs=0.01)
  assert FLOW.variance(0.4) == pytest.approx(0.25)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(('make', 'share'), [(gamma, 0.6), (jump_renoise, 0.4)])
def test_how_much_noise_is_fresh(make, share):
  """γ s of it after CTM; after TCD what k r = 0.3 of the 0.5 leave."""
  _, fresh = linear_step(make(FLOW.average_velocity, gamma=share), 0.9, 0.5)
  k = 0.5 / (1 - 0.6 * 0.5)
  wanted = {gamma: 0.3, jump_renoise: (0.25 - (k * 0.3) ** 2) ** 0.5}[make]
  assert fresh == pytest.approx(wanted, rel=1e-12)


@pytest.mark.usefixtures('x64')
def test_samples_of_a_mixture_are_like_its_data():
  """Four steps with noise, on a flow that is not linear."""
  flow, rng, n = Mixture(), np.random.default_rng(0), 2000
  sampler = jump_renoise(flow.average_velocity, gamma=0.7)
  x0 = solve(sampler, uniform(4), rng.normal(size=(n, 1)))
  data = flow.draw(rng, n)
  assert stats.ks_2samp(np.ravel(x0), np.ravel(data)).pvalue > 0.01


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('steps', [1, 2, 5])
@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('flow_map', {}),
    ('gamma', {'gamma': 0.0}),
    ('jump_renoise', {'gamma': 0.0}),
    ('any', {}),
  ],
)
def test_jumps_along_the_exact_flow_map_end_where_one_does(
  name, options, steps
):
  sampler = SAMPLERS[name](FLOW.average_velocity, **options)
  x0 = solve(sampler, shifted(steps))
  np.testing.assert_allclose(x0, 0.5 * LINE, atol=1e-14)


def test_gamma_0_does_not_fall_below_no_noise_by_rounding():
  sampler = jump_renoise(lambda x, t, s: 0 * x, gamma=0.0)
  x = jax.jit(lambda grid: solve(sampler, grid, LINE.astype(np.float32)))(
    shifted(50, shift=1.7).astype(np.float32)
  )
  np.testing.assert_allclose(x, LINE, rtol=1e-6)


def test_the_noise_of_every_step_and_example_is_fresh():
  """What is left of a u that always jumps to 0 is the last step's noise."""
  seen = []

  def u(x, t, s):
    jax.debug.callback(seen.append, x, ordered=True)
    return x / jnp.maximum(t, 0.1)[:, None]

  solve(gamma(u, gamma=1.0), uniform(4))
  jax.effects_barrier()
  noise = np.asarray(seen)[1:, :, 0] / np.array([[0.75], [0.5], [0.25]])
  assert len(np.unique(noise.round(3))) == noise.size


def test_fresh_noise_is_standard_normal():
  noise = fresh_noise(keys(500), jnp.zeros((500, 2, 3)))
  assert stats.kstest(np.ravel(noise), 'norm').pvalue > 0.01


@pytest.mark.parametrize('make', [gamma, jump_renoise])
@pytest.mark.parametrize('g', [-0.1, 1.1, float('nan')])
def test_gamma_out_of_range_raises(make, g):
  with pytest.raises(ValueError, match=rf'^gamma = {g} must lie in \[0, 1\]'):
    make(FLOW.average_velocity, gamma=g)
