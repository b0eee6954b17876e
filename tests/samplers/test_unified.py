"""Few, any and mul: what they are at the ends of their options, and between."""

import functools
import itertools

import jax
import numpy as np
import pytest
from oracle import Gaussian, Mixture
from solving import LINE, linear_step, solve

from flowdistill.samplers import SAMPLERS
from flowdistill.samplers.grids import shifted, uniform
from flowdistill.samplers.unified import any_style, few, mul

pytestmark = pytest.mark.usefixtures('x64')
FLOW = Gaussian(std=0.5)
TARGETS = {
  few: lambda t, s: 0.0,
  any_style: lambda t, s: s,
  mul: lambda t, s: t,
}


@pytest.mark.parametrize(
  ('name', 'options', 'same'),
  [
    ('few', {}, 'consistency'),
    ('any', {}, 'flow_map'),
    ('mul', {}, 'euler'),
    ('mul', {'order': 2}, 'heun'),
  ],
)
def test_the_samplers_that_they_are(name, options, same):
  grid, u = shifted(4), FLOW.average_velocity
  ours = solve(SAMPLERS[name](u, **options), grid)
  np.testing.assert_allclose(ours, solve(SAMPLERS[same](u), grid), atol=1e-14)


def line(u, t, s, target):
  """x̂ and ẑ at x_t = 1, of a u that is linear in x."""
  F = u(np.ones((1, 1)), *np.array([[t], [target(t, s)]])).item()
  return 1 - t * F, 1 + (1 - t) * F


@pytest.mark.parametrize('make', [few, any_style, mul])
@pytest.mark.parametrize('rho', [0.0, 0.3, 1.0])
def test_a_share_of_the_noise_is_fresh(make, rho):
  t, s = 0.8, 0.3
  x0, x1 = line(FLOW.average_velocity, t, s, TARGETS[make])
  a, b = linear_step(make(FLOW.average_velocity, stochasticity=rho), t, s)
  wanted = (1 - s) * x0 + s * (1 - rho) ** 0.5 * x1
  assert a == pytest.approx(wanted, rel=1e-12)
  assert b == pytest.approx(s * rho**0.5, abs=1e-12)


@pytest.mark.parametrize(
  ('t', 's', 'rho'),
  [(0.8, 0.7, 0.16 / 0.49), (0.8, 0.3, 1.0), (1.0, 0.0, 1.0)],
)
def test_the_share_of_the_sde(t, s, rho):
  """2 t (t − s) / s², at most 1."""
  a, b = linear_step(mul(FLOW.average_velocity, stochasticity='sde'), t, s)
  x0, x1 = line(FLOW.average_velocity, t, s, TARGETS[mul])
  assert b == pytest.approx(s * rho**0.5, abs=1e-12)
  wanted = (1 - s) * x0 + s * (1 - rho) ** 0.5 * x1
  assert a == pytest.approx(wanted, rel=1e-12)


def test_the_sde_keeps_the_marginals_when_its_steps_are_many():
  """To first order: twice the steps, half the error, in equal steps of σ."""

  sampler = mul(FLOW.average_velocity, stochasticity='sde')
  step = jax.jit(jax.vmap(functools.partial(linear_step, sampler)))

  def error(steps):
    noise = np.geomspace(50, 0.02, steps)
    grid = noise / (1 + noise)
    variance = FLOW.variance(grid[0])
    moved, added = map(np.asarray, step(grid[:-1], grid[1:]))
    for a, b in zip(moved, added, strict=True):
      variance = a**2 * variance + b**2
    return abs(variance / FLOW.variance(grid[-1]) - 1)

  coarse, fine = error(200), error(400)
  assert fine < 0.02
  assert np.log2(coarse / fine) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
  ('flow', 'options', 'order'),
  [
    (FLOW, {}, 1),
    (FLOW, {'order': 2}, 2),
    (FLOW, {'order': 2, 'correct_last': True}, 2),
    (FLOW, {'order': 2, 'extrapolation': 0.5}, 2),
    (Mixture(), {'order': 2, 'correct_last': True}, 2),
  ],
)
def test_order_of_convergence(flow, options, order):
  sampler = mul(lambda x, t, s: flow.velocity(x, t), **options)
  run = jax.jit(functools.partial(solve, sampler))
  exact = flow.flow_map(LINE, *np.repeat([[1.0], [0.0]], len(LINE), axis=1))

  def error(steps):
    return np.max(np.abs(run(uniform(steps), LINE) - exact))

  assert np.log2(error(80) / error(160)) == pytest.approx(order, abs=0.2)


def test_corrected_steps_have_no_fresh_noise():
  u = FLOW.average_velocity
  noisy = solve(mul(u, order=2, stochasticity=1.0), uniform(3))
  np.testing.assert_array_equal(noisy, solve(mul(u, order=2), uniform(3)))


@pytest.mark.parametrize('make', [few, any_style, mul])
def test_extrapolation_from_the_third_step(make):
  """Against the algorithm in one loop, κ = 0.4, on a network of its own.

  It ends at the last x̂ as it is predicted.
  """
  kappa, grid = 0.4, shifted(5)

  def network(x, t, s):
    return np.sin(3 * x) + t * x - s**2 * x**3 / 9

  x, last = LINE, None
  for i, (t, s) in enumerate(itertools.pairwise(grid)):
    F = network(x, t, TARGETS[make](t, s))
    now = np.stack([x - t * F, x + (1 - t) * F])
    ahead = now + kappa * (now - last) if i >= 2 and s else now
    x, last = (1 - s) * ahead[0] + s * ahead[1], now

  def u(x, t, s):
    t, s = t[:, None], s[:, None]
    return jax.numpy.sin(3 * x) + t * x - s**2 * x**3 / 9

  sampler = make(u, extrapolation=kappa, stochasticity=0.0)
  np.testing.assert_allclose(solve(sampler, grid), x, rtol=1e-12)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'stochasticity': 1.5}, r"stochasticity = 1.5 must .* or be 'sde'"),
    ({'stochasticity': -0.1}, 'stochasticity = -0.1 must lie'),
    ({'stochasticity': 'ode'}, "stochasticity = 'ode' must lie"),
    ({'extrapolation': -0.1}, 'extrapolation = -0.1 must be at least 0'),
    ({'extrapolation': float('nan')}, 'extrapolation = nan must'),
    ({'order': 3}, 'order = 3 must be 1 or 2'),
    ({'correct_last': True}, 'correct_last = True must go with order = 2'),
  ],
)
def test_what_is_out_of_range(options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    mul(FLOW.average_velocity, **options)
