"""Sets, a block at a time."""

import numpy as np
import pytest

from flowdistill.metrics import blocks


def test_rows_are_flat_and_not_copied():
  x = np.ones((5, 2, 3, 1), np.float32)
  found = blocks.rows(x)
  assert (found.shape, found.dtype) == ((5, 6), np.float32)
  assert np.shares_memory(found, x)


def test_blocks_are_in_float64_and_in_order(monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', 2)
  parts = list(blocks.blocks(np.arange(10, dtype=np.uint8).reshape(5, 2)))
  assert [part for part, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 5)]
  assert parts[2][1].dtype == np.float64
  assert parts[2][1].tolist() == [[8, 9]]


def test_pairs_of_blocks_cover_all_pairs_once(monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', 3)
  a, b = np.zeros((7, 1)), np.zeros((4, 1))
  seen = np.zeros((7, 4), int)
  for i, j, x, y in blocks.across(a, b):
    assert (len(x), len(y)) == seen[i, j].shape
    seen[i, j] += 1
  assert (seen == 1).all()
  seen = np.zeros((7, 7), int)
  for i, j, _, y in blocks.within(np.arange(7.0)[:, None]):
    assert y[0, 0] == j.start
    seen[i, j] += 1
    if i != j:
      seen[j, i] += 1
  assert (seen == 1).all()


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (np.zeros(3), r'n >= 1 needed, got \(3,\)'),
    (np.zeros((0, 3)), r'n >= 1 needed, got \(0, 3\)'),
    (np.zeros((3, 0)), r'n >= 1 needed, got \(3, 0\)'),
    (np.array([[0.0], [np.inf]]), 'examples must be finite; those of index 1'),
  ],
)
def test_bad_examples_are_refused(x, message):
  with pytest.raises(ValueError, match=message):
    blocks.rows(x)


def test_the_index_of_a_bad_example_is_that_of_the_set(monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', 2)
  x = np.zeros((7, 2))
  x[5, 1] = np.nan
  with pytest.raises(
    ValueError, match='features must be finite; those of .* 5'
  ):
    blocks.rows(x, 'features')
