"""Each law has the distribution that its docstring claims."""

import jax
import numpy as np
import pytest
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
  draw = [np.asarray(law(jax.random.key(k), 8)) for k in (1, 1, 2)]
  np.testing.assert_array_equal(draw[0], draw[1])
  assert (draw[0] != draw[2]).all()
  assert draw[0].shape[-1] == 8
  assert draw[0].dtype == np.float32


@pytest.mark.parametrize('name', times.TIME_PAIRS)
def test_every_law_of_pairs_is_in_range_at_its_defaults(name):
  t, s = map(np.asarray, times.TIME_PAIRS[name](KEY, N))
  assert ((s >= 0) & (s <= t) & (t <= 1)).all()
