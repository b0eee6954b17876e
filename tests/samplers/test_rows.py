"""Batches of one shape, whose last row is repeated."""

import numpy as np
import pytest

from flowdistill.samplers import rows


def test_the_last_batch_goes_on_beyond_the_end():
  found = [index.tolist() for index in rows.indices(5, 2)]
  assert found == [[0, 1], [2, 3], [4, 5]]
  assert [index.tolist() for index in rows.indices(1, 3)] == [[0, 1, 2]]


def test_beyond_the_end_the_last_row_is_repeated():
  tree = {'a': np.array([7.0, 8.0]), 'b': np.array([[1], [2]])}
  taken = rows.take(tree, np.arange(1, 4))
  assert taken['a'].tolist() == [8, 8, 8]
  assert taken['b'].tolist() == [[2], [2], [2]]


def test_what_has_another_number_of_rows_is_named():
  rows.check(2, cond={'a': np.ones(2)}, null={})
  message = r"^null\['b'\] has 3 rows; it must have n = 2$"
  with pytest.raises(ValueError, match=message):
    rows.check(2, cond={'a': np.ones(2)}, null={'b': np.ones(3)})
  with pytest.raises(ValueError, match='^n = 0 must be at least 1$'):
    list(rows.indices(0, 2))
