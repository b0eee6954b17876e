"""Distances of all pairs, block by block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics import blocks
from flowdistill.metrics.distances import squared_distances, squared_within


@given(st.integers(0, 999), st.sampled_from([1, 7, 64]))
def test_they_are_those_of_the_definition(seed, block):
  rng = np.random.default_rng(seed)
  a, b = rng.standard_normal((20, 3)), rng.standard_normal((11, 3))
  across, within = np.zeros((20, 11)), np.zeros((20, 20))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(blocks, 'BLOCK', block)
    for i, j, squared in squared_distances(a, b):
      across[i, j] += squared
    for i, j, squared in squared_within(a, itself=0):
      within[i, j] = squared
      within[j, i] = squared.T
  for other, found in ((b, across), (a, within)):
    expected = np.square(a[:, None] - other[None]).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_far_from_the_origin_they_keep_their_digits():
  a = np.array([[1e6, 1e6], [1e6 + 1, 1e6]])
  ((_, _, squared),) = squared_distances(a, a)
  np.testing.assert_allclose(squared, [[0, 1], [1, 0]], atol=1e-12)


def test_copies_are_at_zero_exactly_in_any_block(monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', 7)
  x = np.random.default_rng(0).standard_normal((30, 64)) + 100
  x[20] = x[3]
  assert {
    squared[3 - i.start, 20 - j.start]
    for i, j, squared in squared_within(x, itself=np.inf)
    if i.start <= 3 < i.stop and j.start <= 20 < j.stop
  } == {0.0}


def test_an_example_itself_is_what_is_asked():
  ((_, _, squared),) = squared_within(np.zeros((3, 2)), itself=np.inf)
  assert np.isinf(np.diag(squared)).all()
  assert squared.min() == 0


def test_different_shapes_are_refused():
  with pytest.raises(ValueError, match='of one length needed'):
    next(squared_distances(np.zeros((2, 3)), np.zeros((2, 4))))
