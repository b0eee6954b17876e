"""Each law has the distribution that its docstring claims."""

import jax
import numpy as np
import pytest
from defaults import defaults
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from flowdistill.flow import times

N = 20_000
KEY = jax.random.key(0)
SHARP = 1e-8  # the p-value of a law that is off by a tenth is far below


def p_value(sample, cdf) -> float:
  """Of a Kolmogorov-Smirnov test that the sample follows the distribution."""
  return float(stats.kstest(np.asarray(sample, np.float64), cdf).pvalue)


def normal(mean, std):
  return stats.norm(mean, std).cdf


def test_uniform():
  t = times.uniform(KEY, N, low=0.2, high=0.8)
  assert p_value(t, stats.uniform(0.2, 0.6).cdf) > 0.01
  assert p_value(t, stats.uniform(0.2, 0.54).cdf) < SHARP
  assert p_value(times.uniform(KEY, N), 'uniform') > 0.01


def test_logit_normal():
  t = special.logit(times.logit_normal(KEY, N, mean=-0.6, std=1.6))
  assert p_value(t, normal(-0.6, 1.6)) > 0.01
  assert p_value(t, normal(-0.5, 1.6)) < 1e-4
  assert p_value(t, normal(-0.6, 1.76)) < 1e-4


def test_beta():
  t = times.beta(KEY, N, a=2.0, b=3.0, low=0.1, high=0.9)
  assert p_value(t, stats.beta(2, 3, loc=0.1, scale=0.8).cdf) > 0.01
  assert p_value(t, stats.beta(3, 2, loc=0.1, scale=0.8).cdf) < SHARP
  assert p_value(times.beta(KEY, N), 'uniform') > 0.01


def test_the_ends_and_the_steps_of_a_grid():
  np.testing.assert_array_equal(times.fixed(KEY, 3, t=0.25), [0.25] * 3)
  for t in (0, 1):
    law = times.fixed(KEY, 3, t=t)
    np.testing.assert_array_equal(law, np.full(3, t, np.float32), strict=True)
    np.testing.assert_array_equal(times.ends(KEY, 3, noise_share=1.0 * t), law)
  t = np.asarray(times.ends(KEY, N, noise_share=0.3))
  assert set(t) == {0.0, 1.0}
  assert t.mean() == pytest.approx(0.3, abs=4 * 0.46 / N**0.5)
  values, counts = np.unique(times.grid(KEY, N, steps=4), return_counts=True)
  np.testing.assert_array_equal(values, [0.25, 0.5, 0.75, 1.0])
  assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
  ('law', 'options', 'message'),
  [
    (times.uniform, {'low': -0.1}, 'low = -0.1 must lie'),
    (times.uniform, {'low': 1}, 'low = 1 must lie'),
    (times.uniform, {'high': 1.1}, 'high = 1.1 must lie'),
    (times.logit_normal, {'std': 0}, 'std = 0 must be above 0'),
    (times.beta, {'a': 0}, 'a = 0 must be above 0'),
    (times.beta, {'b': -1}, 'b = -1 must be above 0'),
    (times.beta, {'low': 0.5, 'high': 0.5}, 'high = 0.5 must lie'),
    (times.fixed, {'t': 1.5}, 't = 1.5 must lie'),
    (times.fixed, {'t': -0.5}, 't = -0.5 must lie'),
    (times.ends, {'noise_share': 1.5}, 'noise_share = 1.5 must lie'),
    (times.ends, {'noise_share': -1}, 'noise_share = -1 must lie'),
    (times.grid, {'steps': 0}, 'steps = 0 must be at least 1'),
    (times.ordered, {'instant': 1.5}, 'instant = 1.5 must lie'),
  ],
)
def test_an_option_out_of_range_is_named(law, options, message):
  with pytest.raises(ValueError, match=message):
    law(KEY, 3, **options)


@pytest.mark.parametrize(
  'law', [times.interval, times.ordered, times.sorted_uniform]
)
def test_a_share_of_the_pairs_is_one_instant(law):
  t, s = law(KEY, N, instant=0.75)
  assert float(np.mean(t == s)) == pytest.approx(0.75, abs=0.02)
  plain = np.asarray(law(KEY, N)[0])
  assert stats.ks_2samp(np.asarray(t), plain).pvalue > 0.01
  assert np.all(law(KEY, 9, instant=1.0)[0] == law(KEY, 9, instant=1.0)[1])
  assert not np.any(law(KEY, N)[0] == law(KEY, N)[1])


def test_interval():
  t, s = map(np.float64, times.interval(KEY, N, mean=-0.8, std=1.0))
  share = s / (1 - (t - s))
  assert p_value(special.logit(t - s), normal(-0.8, 1.0)) > 0.01
  assert p_value(share, 'uniform') > 0.01
  assert abs(stats.spearmanr(t - s, share).statistic) < 4 / N**0.5


def test_ordered():
  one = normal(-0.8, 1.0)
  t, s = map(special.logit, times.ordered(KEY, N, mean=-0.8, std=1.0))
  assert p_value(t, lambda x: one(x) ** 2) > 0.01
  assert p_value(s, lambda x: 1 - (1 - one(x)) ** 2) > 0.01
  assert p_value(t, one) < SHARP


def test_sorted_uniform():
  t, s = times.sorted_uniform(KEY, N)
  assert p_value(t, stats.beta(2, 1).cdf) > 0.01
  assert p_value(s, stats.beta(1, 2).cdf) > 0.01
  assert p_value(s / t, 'uniform') > 0.01


@given(st.floats(-4, 4), st.floats(0.01, 4), st.integers(0, 2**32 - 1))
def test_pairs_are_ordered_and_in_range(mean, std, seed):
  key = jax.random.key(seed)
  for law in (times.interval, times.ordered):
    t, s = map(np.asarray, law(key, 1000, mean=mean, std=std))
    assert ((s >= 0) & (s <= t) & (t <= 1)).all()


@pytest.mark.parametrize('name', [*times.TIMES, *times.TIME_PAIRS])
def test_a_law_is_a_function_of_its_key(name):
  law = (times.TIMES | times.TIME_PAIRS)[name]
  draw = [np.asarray(law(jax.random.key(k), 64)) for k in (1, 1, 2)]
  np.testing.assert_array_equal(draw[0], draw[1])
  assert np.any(draw[0] != draw[2]) or name in {'fixed', 'grid'}  # with steps=1
  assert draw[0].shape[-1] == 64
  assert draw[0].dtype == np.float32


@pytest.mark.parametrize('name', times.TIME_PAIRS)
def test_every_law_of_pairs_is_in_range_at_its_defaults(name):
  t, s = map(np.asarray, times.TIME_PAIRS[name](KEY, N))
  assert ((s >= 0) & (s <= t) & (t <= 1)).all()


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(times.TIMES | times.TIME_PAIRS) == {
    'uniform': {'low': 0, 'high': 1},
    'logit_normal': {'mean': 0, 'std': 1},
    'beta': {'a': 1, 'b': 1, 'low': 0, 'high': 1},
    'fixed': {'t': 1},
    'ends': {'noise_share': 0.5},
    'grid': {'steps': 1},
    'interval': {'mean': -0.8, 'std': 1, 'instant': 0},
    'ordered': {'mean': -0.8, 'std': 1, 'instant': 0},
    'mostly_instant': {'mean': -0.4, 'std': 1, 'instant': 0.75},
    'sorted_uniform': {'instant': 0},
  }


def test_mostly_instant_is_ordered_with_its_values():
  own = times.mostly_instant(KEY, 99)
  other = times.ordered(KEY, 99, mean=-0.4, std=1.0, instant=0.75)
  np.testing.assert_array_equal(own, other)
