"""The Inception score against its closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics import blocks
from flowdistill.metrics.inception_score import inception_score

SCORE = 'inception_score'


def test_of_uniform_logits_it_is_one():
  found = inception_score(np.full((50, 7), 3.5), splits=5)
  assert found == {SCORE: pytest.approx(1), f'{SCORE}_deviation': 0}


def test_of_one_class_each_it_is_the_number_of_classes():
  logits = np.where(np.tile(np.eye(8), (5, 1)) == 1, 0, -1e4)
  assert inception_score(logits, splits=1)[SCORE] == pytest.approx(8)


def test_of_one_class_only_it_is_one():
  logits = np.where(np.arange(8) == 3, 900.0, -900.0) * np.ones((10, 1))
  assert inception_score(logits, splits=2)[SCORE] == pytest.approx(1)


def test_of_two_rows_by_hand():
  p = np.array([[0.9, 0.1], [0.5, 0.5]])
  kl = np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1))
  found = inception_score(np.log(p) + np.array([[5], [-7]]), splits=1)
  assert found[SCORE] == pytest.approx(np.exp(kl), rel=1e-13)


@given(st.integers(0, 999), st.sampled_from([1, 3, 1024]))
def test_neither_blocks_nor_order_nor_offsets_change_it(seed, block):
  rng = np.random.default_rng(seed)
  logits = 3 * rng.standard_normal((20, 5))
  whole = inception_score(logits, splits=1)[SCORE]
  assert 1 <= whole <= 5
  other = rng.permutation(logits + rng.standard_normal((20, 1)))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(blocks, 'BLOCK', block)
    assert inception_score(other, splits=1)[SCORE] == pytest.approx(
      whole, rel=1e-12
    )


def test_samples_in_the_order_of_their_classes_are_permuted_first():
  logits = 1e4 * np.repeat(np.eye(10), 50, axis=0)
  kept = inception_score(logits, splits=10, seed=None)
  assert kept[SCORE] == pytest.approx(1)
  assert inception_score(logits, splits=10)[SCORE] > 8


def test_splits_differ_by_at_most_one_and_their_deviation_is_of_all():
  rng = np.random.default_rng(0)
  logits = rng.standard_normal((11, 4))
  parts = [
    inception_score(logits[i:j], splits=1)[SCORE]
    for i, j in ((0, 3), (3, 7), (7, 11))
  ]
  found = inception_score(logits, splits=3, seed=None)
  assert found[SCORE] == pytest.approx(np.mean(parts), rel=1e-13)
  assert found[f'{SCORE}_deviation'] == pytest.approx(np.std(parts), rel=1e-9)


@pytest.mark.parametrize(
  ('logits', 'splits', 'message'),
  [
    (np.zeros((9, 1)), 1, r'classes >= 2 needed, got \(9, 1\)'),
    (np.zeros(9), 1, r'\[n, classes\]'),
    (np.zeros((9, 2)), 10, r'splits = 10 must be in 1 .. 9'),
    (np.zeros((9, 2)), 0, r'splits = 0 must be in 1 .. 9'),
    (np.full((9, 2), np.nan), 1, 'logits must be finite; those of index 0'),
  ],
)
def test_bad_input_is_refused(logits, splits, message):
  with pytest.raises(ValueError, match=message):
    inception_score(logits, splits=splits)
