"""Distances of all pairs, block by block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics import distances


@given(st.integers(0, 999), st.sampled_from([1, 7, 64]))
def test_they_are_those_of_the_definition(seed, block):
  rng = np.random.default_rng(seed)
  a, b = rng.standard_normal((20, 3)), rng.standard_normal((11, 3))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(distances, 'BLOCK', block)
    blocks = list(distances.squared_distances(a, b))
  assert [i for i, _ in blocks] == list(range(0, 20, block))
  expected = np.square(a[:, None] - b[None]).sum(axis=-1)
  found = np.concatenate([squared for _, squared in blocks])
  np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_far_from_the_origin_they_keep_their_digits():
  a = np.array([[1e6, 1e6], [1e6 + 1, 1e6]])
  ((_, squared),) = distances.squared_distances(a, a)
  np.testing.assert_allclose(squared, [[0, 1], [1, 0]], atol=1e-12)


def test_rows_are_flat_and_in_float64():
  x = distances.rows(np.ones((5, 2, 3, 1), np.float32))
  assert (x.shape, x.dtype) == ((5, 6), np.float64)


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (np.zeros(3), r'n >= 1 needed, got \(3,\)'),
    (np.zeros((0, 3)), r'n >= 1 needed, got \(0, 3\)'),
    (np.array([[np.inf]]), 'examples must be finite'),
  ],
)
def test_bad_examples_are_refused(x, message):
  with pytest.raises(ValueError, match=message):
    distances.rows(x)


def test_different_shapes_are_refused():
  with pytest.raises(ValueError, match='of one shape needed'):
    next(distances.squared_distances(np.zeros((2, 3)), np.zeros((2, 4))))
