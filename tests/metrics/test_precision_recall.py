"""Precision, recall, density and coverage of sets that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics import blocks
from flowdistill.metrics.precision_recall import (
  density_coverage,
  precision_recall,
  radii,
)

RNG = np.random.default_rng(0)


def both(samples, reference, k=3):
  """(precision, recall, density, coverage)."""
  return (
    *precision_recall(samples, reference, k=k).values(),
    *density_coverage(samples, reference, k=k).values(),
  )


def by_definition(samples, reference, k):
  def distances(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=-1)

  r_samples = np.sort(distances(samples, samples), axis=1)[:, k]
  r_reference = np.sort(distances(reference, reference), axis=1)[:, k]
  d = distances(samples, reference)
  inside = d < r_reference
  return (
    (d <= r_reference).any(axis=1).mean(),
    (d <= r_samples[:, None]).any(axis=0).mean(),
    inside.sum() / (k * len(samples)),
    inside.any(axis=0).mean(),
  )


@given(
  st.integers(0, 999),
  st.integers(1, 5),
  st.sampled_from([1, 5, 1024]),
)
def test_they_are_those_of_the_definition_in_any_block(seed, k, block):
  rng = np.random.default_rng(seed)
  samples, reference = (
    rng.standard_normal((17, 2)),
    rng.standard_normal((12, 2)),
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(blocks, 'BLOCK', block)
    found = both(samples, reference, k)
  assert found == pytest.approx(by_definition(samples, reference, k))


@pytest.mark.parametrize('block', [1, 7, 1024])
def test_a_set_is_all_of_itself(block, monkeypatch):
  monkeypatch.setattr(blocks, 'BLOCK', block)
  x = RNG.standard_normal((60, 20)) + 50
  assert both(x, x[::-1].copy()) == (1, 1, 1, 1)


def test_what_is_far_is_nothing():
  x = RNG.standard_normal((60, 3))
  assert both(x + 100, x) == (0, 0, 0, 0)


def test_a_lost_mode_costs_recall_and_coverage():
  mode, lost = RNG.standard_normal((2, 40, 3))
  precision, recall, density, coverage = both(
    mode, np.concatenate([mode, lost + 100])
  )
  assert (precision, recall, density, coverage) == (1, 0.5, 1, 0.5)


def test_bad_samples_beside_good_ones_cost_precision_and_density():
  good = RNG.standard_normal((40, 3))
  samples = np.concatenate([good, RNG.standard_normal((40, 3)) + 100])
  assert both(samples, good) == (0.5, 1, 0.5, 1)


@given(st.integers(0, 999))
def test_order_place_and_turn_change_nothing(seed):
  rng = np.random.default_rng(seed)
  a, b = rng.standard_normal((25, 3)), rng.standard_normal((25, 3)) * 1.5
  q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
  moved = [rng.permutation(x) @ q * 2 + [9, -9, 3] for x in (a, b)]
  assert both(*moved) == both(a, b)


def test_copies_of_one_image_have_a_radius_of_zero():
  x = np.ones((9, 4)) * 0.1
  assert radii(x, 3).tolist() == [0] * 9
  assert precision_recall(x, x) == {'precision': 1, 'recall': 1}


def test_density_of_fresh_samples_is_one_on_average():
  x, y = RNG.standard_normal((2, 400, 2))
  assert density_coverage(x, y)['density'] == pytest.approx(1, abs=0.1)
  assert density_coverage(x, y)['coverage'] > 0.9


def test_float32_is_compared_in_float64():
  x = RNG.standard_normal((60, 20)).astype(np.float32)
  assert both(x, x.astype(np.float64)) == (1, 1, 1, 1)


@pytest.mark.parametrize('metric', [precision_recall, density_coverage])
@pytest.mark.parametrize(
  ('a', 'b', 'k', 'message'),
  [
    (np.zeros((9, 2)), np.zeros((9, 2)), 0, 'k = 0 must be at least 1'),
    (np.zeros((3, 2)), np.zeros((9, 2)), 3, 'k = 3 must be less than .* 3 sam'),
    (np.zeros((9, 2)), np.zeros((3, 2)), 3, '9 samples and 3 of the reference'),
    (np.zeros((9, 2)), np.zeros((9, 3)), 3, 'one length needed'),
    (np.full((9, 2), np.nan), np.zeros((9, 2)), 3, 'samples must be finite'),
    (np.zeros(9), np.zeros((9, 2)), 3, r'samples \[n, ...\]'),
  ],
)
def test_bad_input_is_refused(metric, a, b, k, message):
  with pytest.raises(ValueError, match=message):
    metric(a, b, k=k)
