"""The kernel distance against its definition and its expectation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics import blocks
from flowdistill.metrics.kernel import kernel_distance


def kernel(x, y):
  return (x @ y.T / x.shape[1] + 1) ** 3


def by_definition(a, b):
  """Over all pairs of different examples."""
  within = [np.mean(kernel(x, x)[~np.eye(len(x), dtype=bool)]) for x in (a, b)]
  return sum(within) - 2 * kernel(a, b).mean()


def value(a, b, **options):
  return kernel_distance(a, b, **options)['kernel']


@given(st.integers(0, 999), st.sampled_from([1, 4, 1024]))
def test_all_pairs_are_those_of_the_definition(seed, block):
  rng = np.random.default_rng(seed)
  a, b = rng.standard_normal((9, 3)), rng.standard_normal((6, 3)) + 0.5
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(blocks, 'BLOCK', block)
    found = value(a, b, subsets=None)
  assert found == pytest.approx(by_definition(a, b), rel=1e-11, abs=1e-13)


def test_subsets_of_the_whole_are_the_whole():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((20, 3)), rng.standard_normal((20, 3))
  found = kernel_distance(a, b, subsets=3, size=20)
  assert found['kernel'] == pytest.approx(by_definition(a, b), rel=1e-9)
  assert found['kernel_error'] == pytest.approx(0, abs=1e-12)


def test_of_equal_sets_it_is_what_the_diagonal_makes():
  """U-statistics leave out k(x, x), but not from the mixed term."""
  x = np.random.default_rng(0).standard_normal((50, 4))
  k = kernel(x, x)
  expected = 2 * (k.sum() - np.trace(k)) / (50 * 49) - 2 * k.mean()
  assert value(x, x, subsets=None) == pytest.approx(expected, rel=1e-10)
  assert expected < 0


def test_it_has_no_bias():
  """The mean over many small sets of one law is 0 within its error."""
  rng, found = np.random.default_rng(0), []
  for _ in range(4000):
    a, b = rng.standard_normal((2, 5, 2))
    found.append(by_definition(a, b))
    if len(found) <= 100:
      assert value(a, b, subsets=None) == pytest.approx(found[-1], rel=1e-9)
  error = np.std(found) / np.sqrt(len(found))
  assert abs(np.mean(found)) < 3 * error
  assert error < 0.1


def test_the_jackknife_is_the_deviation_over_fresh_sets():
  rng, found, errors = np.random.default_rng(0), [], []
  for _ in range(200):
    a, b = rng.standard_normal((60, 2)), rng.standard_normal((40, 2)) + 1
    figures = kernel_distance(a, b, subsets=None)
    found.append(figures['kernel'])
    errors.append(figures['kernel_error'])
  assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)


def test_subsets_agree_with_all_pairs_within_their_error():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((300, 4)), rng.standard_normal((250, 4)) + 0.3
  found = kernel_distance(a, b, subsets=50, size=100)
  exact = kernel_distance(a, b, subsets=None)
  assert abs(found['kernel'] - exact['kernel']) < 3 * found['kernel_error']
  assert 0 < found['kernel_error'] < exact['kernel_error']


def test_the_seed_decides_the_subsets():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 30, 3))
  one, again, other = (
    value(a, b, subsets=2, size=9, seed=seed) for seed in (0, 0, 1)
  )
  assert one == again != other


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'subsets': 1}, 'subsets = 1 must be at least 2, or None'),
    ({'size': 1}, r'size = 1 must be in 2 .. 10, the number of examples'),
    ({'size': 11}, r'size = 11 must be in 2 .. 10'),
    ({}, r'size = 1000 must be in 2 .. 10'),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    kernel_distance(np.zeros((10, 2)), np.zeros((12, 2)), **options)


@pytest.mark.parametrize(
  ('a', 'b', 'message'),
  [
    (np.zeros((2, 2)), np.zeros((9, 2)), 'three examples in each set, got 2'),
    (np.zeros((9, 2)), np.zeros((9, 3)), 'one length needed'),
    (np.full((9, 2), np.nan), np.zeros((9, 2)), 'samples must be finite'),
    (np.zeros((9, 2)), np.full((9, 2), np.inf), 'reference must be finite'),
  ],
)
def test_bad_sets_are_refused(a, b, message):
  with pytest.raises(ValueError, match=message):
    kernel_distance(a, b, subsets=None)
