"""Rotary positions: what is left of them is the offset."""

import itertools

import numpy as np
import pytest

from flowdistill.networks.rotary import angles_in_row, angles_of, rotate

GRID, SIZE = (3, 4), 8
PLACES = [*itertools.product(*map(range, GRID))]


def logits(theta=100.0):
  """Of one query and one key at all places, [12, 12]."""
  rng = np.random.default_rng(0)
  q, k = rng.normal(size=(2, 1, SIZE))
  angles = angles_of(GRID, SIZE, theta)
  at = [np.asarray(rotate(x.repeat(12, 0), angles)) for x in (q, k)]
  return at[0] @ at[1].T


@pytest.mark.usefixtures('x64')
def test_logits_depend_on_offsets_alone():
  by_offset, found_at = {}, logits()
  for (a, (i, j)), (b, (m, n)) in itertools.product(
    enumerate(PLACES), repeat=2
  ):
    by_offset.setdefault((i - m, j - n), []).append(found_at[a, b])
  assert len(by_offset) == 5 * 7
  means = []
  for found in by_offset.values():
    np.testing.assert_allclose(found, found[0], atol=1e-12)
    means.append(found[0])
  assert np.diff(np.sort(means)).min() > 1e-5  # and all are different


def test_it_turns_and_keeps_lengths():
  x = np.random.default_rng(1).normal(size=(2, 12, SIZE)).astype(np.float32)
  turned = np.asarray(rotate(x, angles_of(GRID, SIZE, 100.0)))
  np.testing.assert_array_equal(turned[:, 0], x[:, 0])  # in the corner
  np.testing.assert_allclose(
    np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
  )
  assert turned.dtype == np.float32


def test_rows_turn_one_half_and_columns_the_other():
  angles = angles_of(GRID, SIZE, 100.0).reshape(*GRID, 2, 2)
  assert not angles[0, :, 0].any()
  assert not angles[:, 0, 1].any()
  np.testing.assert_allclose(angles[2, 1].ravel(), [2, 0.2, 1, 0.1])


@pytest.mark.usefixtures('x64')
def test_in_a_row_they_are_those_of_roformer():
  """Pair k of x[m] as a complex number, times exp(i m θ^(−2k / c))."""
  x = np.random.default_rng(2).normal(size=(5, SIZE))
  half, places = SIZE // 2, np.arange(5)[:, None]
  wanted = (x[:, :half] + 1j * x[:, half:]) * np.exp(
    1j * places * 10_000.0 ** (-2 * np.arange(half) / SIZE)
  )
  found = np.asarray(rotate(x, angles_in_row(5, SIZE, 10_000.0)))
  np.testing.assert_allclose(found[:, :half], wanted.real, atol=1e-12)
  np.testing.assert_allclose(found[:, half:], wanted.imag, atol=1e-12)
