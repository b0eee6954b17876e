"""Warm-ups of an EMA: what they are, and what they remember, in closed form."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from defaults import defaults

from flowdistill.training.ema import decay, update
from flowdistill.training.ema_warmups import WARMUPS, warm_decays


def kappas(d, n):
  """The recursion of TwinFlow's teacher, as it is written."""
  k, seen = 0.0, []
  for _ in range(n):
    seen.append(k)
    k = k + (1 - k) * (d - k) / 2
  return seen


def decays(name, d, n, **options):
  """The decays of the first n updates, in float64."""
  at = WARMUPS[name](d, n, **options)
  return np.asarray(at(jnp.arange(n)), np.float64)


def older(d, k):
  """The share of the average that is older than update k of len(d)."""
  return np.prod(d[k:])


@pytest.mark.parametrize('d', [0.9, 0.99, 0.999])
def test_a_decay_warms_up_from_zero(d):
  table = warm_decays(d, 10**6)
  n = len(table)
  assert 10 < n * (1 - d) < 40  # and not the million that was asked for
  np.testing.assert_allclose(table, kappas(d, n), rtol=1e-6)
  np.testing.assert_allclose(table[-1], d, atol=1e-7)
  np.testing.assert_array_equal(warm_decays(d, 7), table[:7])
  assert table.dtype == np.float32
  assert warm_decays(0.0, 100).tolist() == [0.0]


STEPS, ANNEALED = 800_000, 300_000


def test_what_is_older_than_the_end_of_annealing_in_slimflow():
  """Its ramp forgets it: (k / n)⁹; the recursion keeps 11 % of it."""
  d = decays('hyperbolic', 0.999999, STEPS)
  exact = math.prod((ANNEALED + j) / (STEPS + j) for j in range(2, 11))
  assert exact == pytest.approx(1.5e-4, rel=0.03)
  # Rounding of d to float32 accounts for the tolerance, here and below.
  assert older(d, ANNEALED) == pytest.approx(exact, rel=0.02)
  d = decays('recursive', 0.999999, STEPS)
  assert older(d, ANNEALED) == pytest.approx(0.11, abs=0.005)


@pytest.mark.parametrize('k', [0, 3, 400, 999])
def test_what_is_older_than_an_update_in_closed_form(k):
  n, d = 1000, 0.998
  shares = {
    'hyperbolic': math.prod((k + j) / (n + j) for j in range(2, 11)),
    'debiased': d ** (n - k) * (1 - d**k) / (1 - d**n),
  }
  for name, share in shares.items():
    limit = 1 - 1e-9 if name == 'hyperbolic' else d
    assert older(decays(name, limit, n), k) == pytest.approx(share, abs=1e-5)


def test_a_power_of_one_is_the_mean_of_all_parameters():
  rng = np.random.default_rng(0)
  seen, average = rng.normal(size=(50, 3)), {'w': jnp.full(3, 9.0)}
  for p, d in zip(seen, decays('power', 0.999999, 50, power=1.0), strict=True):
    average = update(average, {'w': jnp.asarray(p, jnp.float32)}, d)
  np.testing.assert_allclose(average['w'], seen.mean(0), atol=1e-6)


@pytest.mark.parametrize('step', [0, 1, 9, 4000])
@pytest.mark.parametrize(
  ('name', 'options', 'expected'),
  [
    ('hyperbolic', {}, lambda n: (1 + n) / (10 + n)),
    ('hyperbolic', {'offset': 2.5}, lambda n: (1 + n) / (2.5 + n)),
    ('power', {}, lambda n: 1 - n ** (-2 / 3)),
    (
      'power',
      {'inv_gamma': 10.0, 'power': 0.75},
      lambda n: 1 - (1 + (n - 1) / 10) ** -0.75,
    ),
    ('debiased', {}, lambda n: 1 - 0.01 / (1 - 0.99**n)),
  ],
)
def test_by_hand(step, name, options, expected):
  found = WARMUPS[name](0.99, 5000, **options)(jnp.int32(step))
  wanted = min(0.99, expected(step + 1))
  assert float(found) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize('name', WARMUPS)
@pytest.mark.parametrize('d', [0.0, 0.5, 0.999, 0.999999])
def test_a_warm_up_never_falls_nor_passes_its_decay(name, d):
  found = decays(name, d, 3000)
  assert np.all((found >= 0) & (found <= np.float32(d)))
  assert np.all(np.diff(found) >= -1e-6)
  assert found[0] <= 0.2
  later = np.asarray(WARMUPS[name](d, 10**5)(jnp.int32(10**5 - 1)))
  assert later == pytest.approx(d, abs=5e-4)


def test_without_a_warm_up_the_decay_is_constant():
  average = decay(1000, lambda length: 0, decay=0.7, warmup=None)
  np.testing.assert_allclose(average.decay(jnp.arange(3)), 0.7)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    *(('hyperbolic', {'offset': x}) for x in (1.0, -10.0, math.nan, math.inf)),
    *(('power', {'power': x}) for x in (0.0, -1.0, math.nan, math.inf)),
    *(('power', {'inv_gamma': x}) for x in (0.0, -1.0, math.nan, math.inf)),
  ],
)
def test_options_out_of_range(name, options):
  ((key, value),) = options.items()
  with pytest.raises(ValueError, match=f'{key} = {value} must be above'):
    WARMUPS[name](0.999, 100, **options)


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(WARMUPS) == {
    'recursive': {},
    'hyperbolic': {'offset': 10.0},
    'power': {'inv_gamma': 1.0, 'power': 2 / 3},
    'debiased': {},
  }
