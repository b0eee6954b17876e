"""Streaming moments against those of the whole set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics import blocks
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import (
  RunningMoments,
  checked_moments,
  merge,
  moments,
)

SEEDS = st.integers(0, 10_000)


def features(seed, n=97, d=5):
  """Of different scales, and far from the origin."""
  rng = np.random.default_rng(seed)
  return rng.standard_normal((n, d)) * 10.0 ** np.arange(d) + 1000


def assert_equal(found, x):
  expected = np.cov(x, rowvar=False)
  scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
  assert found.count == len(x)
  np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(
    found.covariance / scale, expected / scale, atol=1e-10
  )


@given(SEEDS, st.lists(st.integers(0, 97), max_size=6))
def test_any_parts_give_the_moments_of_the_whole(seed, ends):
  x = features(seed)
  parts = [part for part in np.split(x, sorted(ends)) if len(part)]
  assert_equal(merge(RunningMoments.of(p) for p in parts).moments(), x)


@pytest.mark.parametrize('block', [1, 10, 96, 97, 1000])
def test_any_block_size_gives_the_moments_of_the_whole(block, monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', block)
  assert_equal(moments(features(0)), features(0))


def test_two_hosts_agree_with_one_to_the_byte():
  """Blocks of a fixed size, merged in the order of the samples."""
  x = features(1, n=64)
  parts = [RunningMoments.of(x[i : i + 8]) for i in range(0, 64, 8)]
  hosts = [parts[0::2], parts[1::2]]
  woven = [part for pair in zip(*hosts, strict=True) for part in pair]
  one, two = merge(parts), merge(woven)
  assert one.mean.tobytes() == two.mean.tobytes()
  assert one.scatter.tobytes() == two.scatter.tobytes()


def test_the_scatter_is_symmetric_to_the_last_digit():
  x = features(2)
  scatter = merge(
    [RunningMoments.of(x[:40]), RunningMoments.of(x[40:])]
  ).scatter
  assert (scatter == scatter.T).all()


def test_nothing_adds_nothing():
  x = RunningMoments.of(features(3))
  empty = RunningMoments.empty(5)
  assert empty.merged(x) is x
  assert x.merged(empty) is x


def test_of_too_little():
  one = RunningMoments.of(np.ones((1, 3)))
  assert (one.count, one.scatter.sum()) == (1, 0)
  with pytest.raises(ValueError, match='at least two features needed, got 1'):
    one.moments()
  with pytest.raises(ValueError, match='one length needed, got 3 and 2'):
    one.merged(RunningMoments.empty(2))


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (np.zeros(3), r'\[n, d\] needed, got \(3,\)'),
    (np.zeros((2, 2, 2)), r'\[n, d\] needed'),
    (np.array([[1.0], [np.nan]]), 'features must be finite; those of index 1'),
  ],
)
def test_bad_features_are_refused(x, message):
  with pytest.raises(ValueError, match=message):
    RunningMoments.of(x)


def test_float32_of_others_is_read_and_made_symmetric():
  x = features(4)
  found = checked_moments(
    x.mean(axis=0).astype(np.float32),
    np.cov(x, rowvar=False).astype(np.float32),
  )
  assert found.covariance.dtype == found.mean.dtype == np.float64
  assert (found.covariance == found.covariance.T).all()
  assert found.count is None


def test_moments_without_a_count_can_be_compared():
  x = moments(features(5))
  known = checked_moments(x.mean, x.covariance, x.count)
  unknown = checked_moments(x.mean, x.covariance)
  assert frechet_distance(known, unknown) == pytest.approx(0, abs=1e-3)


GOOD = np.array([[2.0, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
  ('mean', 'covariance', 'count', 'message'),
  [
    (np.zeros(2, int), GOOD, 9, 'mean must be of float32 or float64, not int'),
    (np.zeros(2), GOOD.astype(complex), 9, 'covariance must be of float32'),
    (np.array([0, np.nan]), GOOD, 9, 'the mean must be finite'),
    (np.zeros(2), GOOD * np.inf, 9, 'the covariance must be finite'),
    (np.zeros(3), GOOD, 9, r'not \[3\] and \[2, 2\]'),
    (np.zeros((1, 2)), GOOD, 9, r'not \[1, 2\] and \[2, 2\]'),
    (np.zeros(0), np.zeros((0, 0)), 9, r'not \[0\] and \[0, 0\]'),
    (np.zeros(2), GOOD + 1e-3 * np.eye(2, k=1), 9, 'must be symmetric'),
    (np.zeros(2), GOOD - 1.1 * np.eye(2), 9, 'positive semi-definite'),
    (np.zeros(2), -GOOD, 9, 'positive semi-definite'),
    (np.zeros(2), GOOD, 1, 'at least 2, not 1'),
  ],
)
def test_bad_moments_are_refused(mean, covariance, count, message):
  with pytest.raises(ValueError, match=message):
    checked_moments(mean, covariance, count)


def test_no_variance_at_all_is_a_covariance():
  assert checked_moments(np.zeros(2), np.zeros((2, 2))).covariance.sum() == 0
