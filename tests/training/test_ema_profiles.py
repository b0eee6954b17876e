"""Power-function EMAs: widths, profiles, and any length of them afterwards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.training.ema import EMAS
from flowdistill.training.ema_profiles import (
  Profile,
  Snapshot,
  fit,
  gamma_of,
  power_name,
  products,
  reconstruct,
  sigma_rel_in,
  sigma_rel_of,
)

STEPS = 2000


def weights(sigma_rel, n, steps=STEPS):
  """The share of each update in an EMA after n updates, by its definition."""
  k = np.arange(steps + 1)
  below = np.minimum(k / n, 1) ** (gamma_of(sigma_rel) + 1)
  return np.diff(below)


@functools.cache
def walk():
  """Parameters [updates, n] that walk randomly, away from 0."""
  steps = np.random.default_rng(0).standard_normal((STEPS, 300))
  return 5 + np.cumsum(steps, 0)


def snapshots(every, dtype=np.float32):
  return [
    Snapshot(
      Profile(s, n),
      lambda s=s, n=n: {'w': (weights(s, n) @ walk()).astype(dtype)},
    )
    for n in range(every, STEPS + 1, every)
    for s in (0.05, 0.1)
  ]


@pytest.mark.parametrize('gamma', [0.01, 1.0, 6.94, 16.97, 300.0])
def test_the_width_is_that_of_numeric_integration(gamma):
  tau = (np.arange(1_000_000) + 0.5) / 1e6
  p = tau**gamma / np.sum(tau**gamma)
  mean = np.sum(p * tau)
  std = np.sqrt(np.sum(p * (tau - mean) ** 2))
  assert sigma_rel_of(gamma) == pytest.approx(std, rel=1e-4)
  assert gamma_of(sigma_rel_of(gamma)) == pytest.approx(gamma, rel=1e-9)


def test_the_exponents_of_the_paper():
  # Section 3.1: widths of 5 % and 10 % are γ = 16.97 and γ = 6.94.
  assert gamma_of(0.05) == pytest.approx(16.97, abs=0.005)
  assert gamma_of(0.10) == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize('value', [0.0, -0.1, 0.2887, 1.0, float('nan'), 1e-9])
def test_a_width_that_no_power_function_has(value):
  with pytest.raises(ValueError, match=f'sigma_rel = {value} must lie between'):
    gamma_of(value)
  with pytest.raises(ValueError, match='sigma_rel = '):
    EMAS['power'](1, lambda length: 1, sigma_rel=value)


@pytest.mark.parametrize('time', [0, -1, float('inf'), float('nan')])
def test_a_time_out_of_range(time):
  with pytest.raises(ValueError, match='time = .* must be above 0'):
    Profile(0.1, time)


def test_products_are_those_of_numeric_integration():
  profiles = [Profile(0.05, 3.0), Profile(0.1, 5.0), Profile(0.25, 5.0)]
  tau = (np.arange(100_000) + 0.5) / 2e4
  density = [
    np.where(tau < p.time, (p.gamma + 1) * (tau / p.time) ** p.gamma, 0)
    / p.time
    for p in profiles
  ]
  expected = [[np.sum(a * b) / 2e4 for b in density] for a in density]
  np.testing.assert_allclose(products(profiles, profiles), expected, rtol=1e-3)


@pytest.mark.parametrize('sigma_rel', [0.05, 0.1, 0.28])
def test_what_is_tracked_has_the_profile(sigma_rel):
  """Update after update, in float32, against the definition."""
  ema = EMAS['power'](0, lambda length: 0, sigma_rel=sigma_rel)
  params = jnp.asarray(walk()[:500], jnp.float32)
  start = ema.init({'w': jnp.full(300, 1e6)})

  def update(n, tracked):
    return ema.advance(n, tracked, {'w': params[n]})

  end = jax.jit(lambda: jax.lax.fori_loop(0, 500, update, start))()
  expected = weights(sigma_rel, 500)[:500] @ walk()[:500]
  np.testing.assert_allclose(end['w'], expected, rtol=1e-4)


def test_the_decay_of_a_late_update_has_all_its_digits():
  ema, n = EMAS['power'](0, lambda length: 0, sigma_rel=0.05), 4_000_000
  exact = (1 - 1 / n) ** (gamma_of(0.05) + 1)
  assert float(ema.decay(jnp.int32(n - 1))) == pytest.approx(exact, abs=6e-8)


@pytest.mark.parametrize('time', [STEPS, STEPS // 2, 1900])
@pytest.mark.parametrize('sigma_rel', [0.02, 0.03, 0.075, 0.15, 0.2])
def test_any_length_of_a_random_walk(sigma_rel, time):
  """Below 1 % of the walk, and of its distance to the last parameters."""
  found, residual = reconstruct(snapshots(50), Profile(sigma_rel, time))
  exact = weights(sigma_rel, time) @ walk()
  error = np.linalg.norm(found['w'] - exact)
  assert error < 0.01 * np.linalg.norm(exact)
  if sigma_rel > 0.02:
    assert error < 0.01 * np.linalg.norm(exact - walk()[time - 1])
  assert residual < 0.1


def test_a_tracked_profile_is_the_snapshot_itself():
  read = []
  mine = snapshots(500)
  noted = [
    Snapshot(x.profile, lambda x=x: read.append(x.profile) or x.load())
    for x in mine
  ]
  found, residual = reconstruct(iter(noted), Profile(0.05, 1500))
  np.testing.assert_array_equal(found['w'], mine[4].load()['w'])
  assert residual == 0
  assert read == [Profile(0.05, 1500)]


def test_constant_parameters_stay_so():
  tracked = [x.profile for x in snapshots(500)]
  for sigma_rel in (0.01, 0.2):
    found = fit(tracked, Profile(sigma_rel, STEPS))
    assert found.coefficients.sum() == pytest.approx(1, abs=1e-12)


def test_the_unit_of_time_and_the_order_have_no_effect():
  tracked = [x.profile for x in snapshots(500)]
  images = [Profile(p.sigma_rel, p.time * 2048) for p in tracked[::-1]]
  one = fit(tracked, Profile(0.07, 1700))
  other = fit(images, Profile(0.07, 1700 * 2048))
  np.testing.assert_allclose(one.coefficients, other.coefficients[::-1])
  assert one.residual == pytest.approx(other.residual)


def test_a_profile_that_is_there_twice_has_one_share_in_all():
  tracked = [x.profile for x in snapshots(500)]
  one = fit(tracked, Profile(0.07, STEPS))
  two = fit([*tracked, tracked[-1]], Profile(0.07, STEPS))
  both = two.coefficients[-1] + two.coefficients[len(tracked) - 1]
  assert both == pytest.approx(one.coefficients[-1], rel=1e-6)


def test_a_length_below_the_interval_has_a_large_residual():
  tracked = [x.profile for x in snapshots(500)]
  found = fit(tracked, Profile(0.01, STEPS))
  mass = [
    x * weights(p.sigma_rel, p.time)
    for x, p in zip(found.coefficients, tracked, strict=True)
  ]
  exact = weights(0.01, STEPS)
  error = np.linalg.norm(np.sum(mass, 0) - exact) / np.linalg.norm(exact)
  assert found.residual == pytest.approx(error, rel=0.01)
  assert found.residual > 0.5


def test_a_time_before_the_first_snapshot():
  with pytest.raises(ValueError, match='there is no EMA of a time up to 30'):
    reconstruct(snapshots(50), Profile(0.1, 30))


def test_half_precision_is_enough():
  found, _ = reconstruct(snapshots(100, np.float16), Profile(0.15, STEPS))
  exact = weights(0.15, STEPS) @ walk()
  assert found['w'].dtype == np.float32
  assert np.linalg.norm(found['w'] - exact) < 0.001 * np.linalg.norm(exact)


@pytest.mark.parametrize('sigma_rel', [0.02, 0.07, 0.28])
def test_of_few_updates_any_length_is_exact(sigma_rel):
  """With a snapshot of each, a profile is a share of every update."""
  few = [
    Snapshot(
      Profile(s, n), lambda s=s, n=n: {'w': weights(s, n, 6) @ walk()[:6]}
    )
    for n in range(1, 7)
    for s in (0.05, 0.1)
  ]
  found, residual = reconstruct(few, Profile(sigma_rel, 6))
  exact = weights(sigma_rel, 6, 6) @ walk()[:6]
  np.testing.assert_allclose(found['w'], exact, rtol=1e-5)
  assert residual < 1e-6


@pytest.mark.parametrize('sigma_rel', [0.03, 0.07, 0.15])
def test_few_and_many_updates_have_nearly_the_same_combination(sigma_rel):
  one, other = (
    fit(
      [Profile(s, n * unit) for n in range(16, 257, 16) for s in (0.05, 0.1)],
      Profile(sigma_rel, 256 * unit),
    )
    for unit in (1, 100)
  )
  assert one.residual == pytest.approx(other.residual, abs=0.005)
  np.testing.assert_allclose(one.coefficients, other.coefficients, atol=0.6)


def test_names_of_widths():
  assert power_name(0.10) == 'power:0.1'
  assert sigma_rel_in('power:0.10') == 0.1
  assert sigma_rel_in('ema') is None
