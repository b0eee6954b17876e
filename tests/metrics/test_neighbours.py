"""Nearest neighbours, and what they say of a model that remembers."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowdistill.metrics import blocks
from flowdistill.metrics.neighbours import memorised, nearest_distances


def test_of_a_handful_by_hand():
  a, b = np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[3.0, 4.0], [9.0, 0.0]])
  assert nearest_distances(a, b).tolist() == [5, 1]
  assert nearest_distances(b, b).tolist() == [0, 0]


def test_images_are_taken_as_they_are():
  a = np.zeros((3, 2, 2, 1), np.float32)
  b = np.ones((5, 2, 2, 1), np.float32)
  assert nearest_distances(a, b).tolist() == [2, 2, 2]


@pytest.mark.parametrize('block', [1, 4, 1024])
def test_without_itself(block, monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', block)
  x = np.array([0.0, 1.0, 3.0, 7.0, 7.5, 20.0])[:, None]
  found = nearest_distances(x, x, exclude_self=True)
  assert found.tolist() == [1, 1, 2, 0.5, 0.5, 12.5]


def test_a_copy_is_at_distance_zero_exactly():
  x = np.random.default_rng(0).standard_normal((500, 64)) + 100
  assert nearest_distances(x[::7], x).max() == 0


def test_fresh_digits_are_near_half_of_the_time():
  """Real ones, averaged over which are held out."""
  x = load_digits().images
  rng, shares = np.random.default_rng(0), []
  for _ in range(5):
    fresh, training = np.split(rng.permutation(x), [360])
    shares.append(memorised(fresh, training))
  assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_copies_are_all_remembered_and_what_is_far_is_not():
  x = load_digits().images[:300]
  assert memorised(x[::3], x) == 1
  assert memorised(x + 100, x) == 0
  assert memorised(np.concatenate([x[:10], x[:30] + 100]), x) == 0.25


def test_copies_count_where_the_data_has_its_own():
  x = np.repeat(np.arange(6.0), 2)[:, None]
  assert memorised(x, x) == 1
  assert memorised(x + 0.1, x) == 0


def test_who_has_no_neighbour_is_refused():
  one = np.zeros((1, 2))
  with pytest.raises(ValueError, match='at least two examples, got 1 and 1'):
    nearest_distances(one, one, exclude_self=True)
  with pytest.raises(ValueError, match='the same set twice'):
    nearest_distances(np.zeros((3, 2)), np.zeros((4, 2)), exclude_self=True)
