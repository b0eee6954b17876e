"""Sequences that are made when they are indexed."""

import numpy as np
import pytest

from flowdistill.datasets.lazy import Lazy, places


def test_it_is_indexed_as_a_list_and_makes_no_more_than_that():
  made = []

  def make(i):
    made.append(i)
    return 10 * i

  squares = Lazy(5, make)
  assert (len(squares), squares[1], squares[-1]) == (5, 10, 40)
  assert squares[np.int64(2)] == 20
  assert made == [1, 4, 2]
  assert list(squares) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize('index', [5, -6, 1.0, True, 'a'])
def test_what_is_no_index_is_refused(index):
  with pytest.raises(IndexError, match='must'):
    Lazy(5, int)[index]


def test_places_are_as_those_of_an_array():
  whole = np.arange(7)
  for index in (3, -1, slice(1, None, 2), np.array([0, -7, 6]), [2, 2]):
    np.testing.assert_array_equal(places(index, 7), whole[index])
  for index in (np.array([0, 7]), np.zeros((2, 2), int), np.ones(7, bool)):
    with pytest.raises(IndexError):
      places(index, 7)
