"""The CLIP score by hand."""

import numpy as np
import pytest

from flowdistill.metrics import blocks
from flowdistill.metrics.clip_score import clip_score

EAST, NORTH = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_equal_directions_have_100_whatever_their_length():
  x = np.random.default_rng(0).standard_normal((9, 5))
  found = clip_score(x, 3 * x)
  assert found['clip_score'] == pytest.approx(100)
  assert found['clip_score_error'] == pytest.approx(0, abs=1e-12)


def test_each_pair_is_at_least_zero():
  """Not only their mean, as in the code of torchmetrics."""
  images = np.array([EAST, EAST, EAST, EAST])
  texts = np.array([EAST, -EAST, NORTH, EAST + NORTH])
  scores = [100, 0, 0, 100 * np.sqrt(0.5)]
  found = clip_score(images, texts)
  assert found['clip_score'] == pytest.approx(np.mean(scores))
  error = np.std(scores, ddof=1) / 2
  assert found['clip_score_error'] == pytest.approx(error)


def test_neither_blocks_nor_order_change_it(monkeypatch):
  rng = np.random.default_rng(0)
  images, texts = rng.standard_normal((2, 20, 4))
  whole = clip_score(images, texts)
  order = rng.permutation(20)
  monkeypatch.setattr(blocks, 'BLOCK', 3)
  found = clip_score(images[order], texts[order])
  assert found == pytest.approx(whole, rel=1e-12)
  texts[17] = 0
  with pytest.raises(ValueError, match='texts must not be 0; .* index 17 is'):
    clip_score(images, texts)


@pytest.mark.parametrize(
  ('images', 'texts', 'message'),
  [
    (np.ones((1, 2)), np.ones((1, 2)), 'two pairs needed, got 1 images and 1'),
    (np.ones((3, 2)), np.ones((2, 2)), 'two pairs needed, got 3 images and 2'),
    (np.ones((3, 2)), np.ones((3, 4)), 'one length needed'),
    (np.ones((3, 2)), np.zeros((3, 2)), 'texts must not be 0; .* index 0'),
    (np.full((3, 2), np.nan), np.ones((3, 2)), 'images must be finite'),
  ],
)
def test_bad_pairs_are_refused(images, texts, message):
  with pytest.raises(ValueError, match=message):
    clip_score(images, texts)
