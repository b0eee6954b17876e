"""Random features: of the caption alone, different for each, and fixed."""

import hashlib

import numpy as np
import pytest

from flowdistill.text_encoders.random_features import RandomFeatures, uniform

SMALL = RandomFeatures(length=6, width=16)
CAPTIONS = [
  'a red square', 'A RED square', 'square red a', '', '🔥!', 'صورة حصان',
  'word ' * 2000,
]  # fmt: skip


def test_a_caption_is_encoded_alone_as_among_others():
  whole = SMALL.encode(CAPTIONS)
  for k, caption in enumerate(CAPTIONS):
    for name, array in SMALL.encode([caption]).items():
      np.testing.assert_array_equal(array[0], whole[name][k])


def test_shapes_mask_and_sizes():
  found = SMALL.encode(CAPTIONS)
  for name, condition in SMALL.conditions.items():
    assert found[name].shape == (7, *condition.shape)
    assert found[name].dtype == condition.dtype
  sizes = SMALL.sizes(CAPTIONS)
  assert sizes == [3, 3, 3, 0, 2, 2, 2000]
  assert found['mask'].sum(1).tolist() == [min(n, 6) for n in sizes]
  assert not found['text'][~found['mask']].any()
  assert np.isfinite(found['text']).all()


def test_null_is_the_empty_caption():
  found = SMALL.encode(['', ''])
  for name, condition in SMALL.conditions.items():
    np.testing.assert_array_equal(found[name], condition.full(2))


def test_words_know_their_place_and_the_others():
  text, pooled = (SMALL.encode(CAPTIONS)[n] for n in ('text', 'pooled'))
  np.testing.assert_array_equal(text[0], text[1])  # in lower case
  # The word itself is the first half, wherever it stands.
  np.testing.assert_array_equal(text[0, 0, :8], text[2, 2, :8])
  assert not np.allclose(text[0, 0, 8:], text[2, 2, 8:])
  assert not np.allclose(pooled[0], pooled[2])
  # What stands before it: nothing; behind it: other words.
  a, b = SMALL.encode(['red square', 'red circle'])['text']
  np.testing.assert_array_equal(a[0, :12], b[0, :12])
  assert not np.allclose(a[0, 12:], b[0, 12:])


def test_words_that_are_spelt_alike_are_near():
  encoder = RandomFeatures(width=256)
  words = encoder.encode(['squares', 'square', 'blue'])['text'][:, 0, :128]
  likeness = np.corrcoef(words)
  assert likeness[0, 1] > 0.4
  assert abs(likeness[0, 2]) < 0.3


def test_vectors_have_variance_one():
  x = uniform('0 gram fox', (20000,))
  assert abs(x.mean()) < 0.02
  assert abs(x.std() - 1) < 0.01


def test_other_seeds_are_other_features():
  one, other = (
    RandomFeatures(width=16, seed=s).encode(CAPTIONS[:1])['text']
    for s in (0, 1)
  )
  assert not np.allclose(one[0, :3], other[0, :3])


def test_numbers_do_not_change_between_versions():
  """Of the hashes; products may round otherwise elsewhere."""
  data = uniform('0 gram <re', (8,)).tobytes()
  assert hashlib.sha256(data).hexdigest()[:12] == '21e428ea9a97'


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'length': 0}, 'length = 0 must lie in'),
    ({'width': 18}, 'width = 18 must be a multiple of 4 in'),
    ({'width': 0}, 'width = 0 must be'),
    ({'seed': -1}, 'seed = -1 must'),
  ],
)
def test_options_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    RandomFeatures(**options)
