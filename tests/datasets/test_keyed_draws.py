"""Draws that depend on their key alone."""

import numpy as np
import pytest

from flowdistill.datasets.keyed_draws import KeyedDraws


def first(seed, index, n=200):
  draws = KeyedDraws(seed, index)
  return [draws.uniform() for _ in range(n)]


def test_a_key_gives_the_same_numbers_whatever_was_drawn_before():
  before = first(3, 7)
  np.random.default_rng(0).standard_normal(10)
  first(7, 3)
  assert first(3, 7) == before
  assert not {*before} & {*first(7, 3), *first(3, 8), *first(4, 7)}


def test_the_numbers_are_these_in_every_version():
  """Of Philox 4x64 with ten rounds and the key (0, 0), at counter 1."""
  raw = np.random.Philox(key=0).random_raw(3)
  assert first(0, 0, 3) == (raw * 2.0**-64).tolist()
  expected = [0.309314911, 0.356956237, 0.03690453]
  assert first(1, 2, 3) == pytest.approx(expected, abs=1e-9)


def test_they_are_uniform():
  x = np.asarray([u for index in range(50) for u in first(0, index)])
  assert x.min() >= 0 and x.max() < 1
  assert x.mean() == pytest.approx(1 / 2, abs=0.01)
  assert x.var() == pytest.approx(1 / 12, abs=0.003)
  lag = np.corrcoef(x[:-1], x[1:])[0, 1]
  assert abs(lag) < 0.03


def test_choices_reach_all_and_are_distinct():
  draws = KeyedDraws(0, 0)
  assert {draws.choose('abc') for _ in range(100)} == {*'abc'}
  assert {draws.below(3) for _ in range(100)} == {0, 1, 2}
  orders = {''.join(draws.choose_distinct('abc', 3)) for _ in range(200)}
  assert orders == {'abc', 'acb', 'bac', 'bca', 'cab', 'cba'}
  share = np.mean([draws.chance(0.25) for _ in range(2000)])
  assert share == pytest.approx(0.25, abs=0.04)
  assert 2 <= draws.uniform(2, 5) < 5
