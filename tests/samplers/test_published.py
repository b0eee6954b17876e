"""The published samplers: their times by hand, their laws in closed form."""

import itertools

import jax
import numpy as np
import pytest
from oracle import Gaussian
from solving import LINE, linear_step, solve

from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.flow.spec import DataSpec
from flowdistill.samplers.published import PUBLISHED, grid_of, spelled_out

pytestmark = pytest.mark.usefixtures('x64')
FLOW = Gaussian(std=0.5)
LABELLED = DataSpec.labelled((1,), 10)


def plan(sampler, nfe, **given):
  return plan_sampling(sampler, nfe, given, spec=LABELLED)


@pytest.mark.parametrize(
  ('name', 'nfe', 'times'),
  [
    ('twinflow_few', 1, [0.999, 0]),
    ('twinflow_few', 2, [0.999, 0.7, 0]),
    ('twinflow_any', 4, [0.999, 0.999 - 0.499 / 3, 0.5 + 0.499 / 3, 0.5, 0]),
    ('twinflow_any', 8, [*(0.999 - 0.499 * np.arange(8) / 7), 0]),
  ],
)
def test_the_times_of_few_and_any(name, nfe, times):
  made = plan(name, nfe)
  assert made.nfe == nfe
  np.testing.assert_allclose(made.times, times, rtol=1e-6)


def test_the_times_of_mul():
  """The first 30 of 31 even w, each by Kumaraswamy's distribution, and 0."""
  made = plan('twinflow_mul', 30)
  even = [0.001 + 0.999 * i / 30 for i in range(30)]
  times = [1 - (1 - (1 - w**1.17) ** 0.8) ** 1.1 for w in even]
  np.testing.assert_allclose(made.times, [*times, 0], rtol=1e-6)


def variances(name, nfe):
  """Of x at each time of a plan, from noise, by the linear steps of FLOW."""
  made, variance = plan(name, nfe), 1.0
  grid, method = made.times, made.method(FLOW.average_velocity)
  for t, s in itertools.pairwise(np.asarray(grid, np.float64)):
    a, b = linear_step(method, t, s)
    variance = float(a) ** 2 * variance + float(b) ** 2
  return variance


def test_few_draws_the_data_from_fresh_noise_at_the_gap():
  """The noise of variance 1 at 0.999 alone makes a difference, and is lost."""

  def jump(variance, t):
    return variance * FLOW.variance(0.0) / FLOW.variance(t)

  one = jump(1.0, 0.999)
  two = jump(0.3**2 * one + 0.7**2, 0.7)
  assert variances('twinflow_few', 1) == pytest.approx(one, rel=1e-6)
  assert variances('twinflow_few', 2) == pytest.approx(two, rel=1e-6)
  assert two == pytest.approx(FLOW.variance(0.0), rel=1e-3)


@pytest.mark.parametrize('nfe', [4, 8])
def test_any_is_the_exact_map_in_any_number_of_steps(nfe):
  x = solve(
    plan('twinflow_any', nfe).method(FLOW.average_velocity),
    plan('twinflow_any', nfe).times,
  )
  scale = (FLOW.variance(0.0) / FLOW.variance(0.999)) ** 0.5
  np.testing.assert_allclose(x, LINE * scale, rtol=1e-6)


def test_mul_is_euler_on_its_grid():
  """v = x var' / (2 var), so that each step is a factor."""
  made, factor = plan('twinflow_mul', 30), 1.0
  for t, s in itertools.pairwise(np.asarray(made.times, np.float64)):
    variance, slope = (1 - t) ** 2 / 4 + t**2, -(1 - t) / 2 + 2 * t
    factor *= 1 + (s - t) * slope / (2 * variance)
  velocity = made.method(lambda x, t, s: FLOW.velocity(x, t))
  x = jax.jit(lambda x: solve(velocity, made.times, x))(LINE)
  np.testing.assert_allclose(x, LINE * factor, rtol=1e-6)


def test_what_is_given_replaces_what_was_published():
  made = plan('twinflow_few', 2, stochasticity=0.8, grid='uniform')
  assert made.sampler == 'few'
  assert dict(made.options) == {'stochasticity': 0.8, 'extrapolation': 0.0}
  assert made.times.tolist() == [1, 0.5, 0]
  assert plan('twinflow_mul', 3, order=2).nfe == 3


def test_guidance_is_counted():
  made = plan('twinflow_mul', 60, guidance={'scale': 4.0, 'low': 0.0})
  assert len(made.times) == 31


def test_other_names_are_left_as_they_are():
  assert spelled_out('euler', {'grid': 'karras'}) == (
    'euler',
    {'grid': 'karras'},
  )
  assert spelled_out(['euler'], {}) == (['euler'], {})
  assert grid_of('euler', 'karras') == 'karras'
  for name, known in PUBLISHED.items():
    assert grid_of(name, 'karras') == known.grid


@pytest.mark.parametrize(
  ('name', 'given', 'message'),
  [
    ('twinflow_fw', {}, "^sampler = 'twinflow_fw' .* mean 'twinflow_few'"),
    ('twinflow_few', {'order': 2}, "^few takes no 'order'"),
    ('twinflow_any', {'stochasticity': 2.0}, '^stochasticity = 2.0 must lie'),
  ],
)
def test_what_is_mistyped(name, given, message):
  with pytest.raises(ValueError, match=message):
    plan(name, 4, **given)
