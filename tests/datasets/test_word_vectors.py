"""Words of captions as fixed vectors."""

import numpy as np

from flowdistill.datasets.word_vectors import WordVectors, vector


def test_each_word_has_its_vector_wherever_it_stands():
  found = WordVectors(3).encode(['waving hand: Dark', 'hand', ''])
  np.testing.assert_array_equal(found['text'][0, 1], found['text'][1, 0])
  np.testing.assert_array_equal(found['text'][0, 2], vector('dark'))
  assert found['mask'].tolist() == [THREE, ONE, NONE]
  assert not found['text'][~found['mask']].any()


def test_it_is_of_the_declared_shape_and_of_variance_one():
  found = WordVectors(3).encode(['one two three four'])
  for name, condition in WordVectors(3).conditions.items():
    assert found[name].shape == (1, *condition.shape)
    assert found[name].dtype == condition.dtype
  many = np.concatenate([vector(str(k)) for k in range(500)])
  assert abs(many.mean()) < 0.02
  assert abs(many.std() - 1) < 0.02


def test_the_vectors_are_the_same_everywhere():
  """By value: a network of last year knows the same words."""
  np.testing.assert_allclose(vector('hand')[:3], HAND, atol=1e-6)


THREE, ONE, NONE = [True] * 3, [True, False, False], [False] * 3
HAND = [1.338094, -1.079985, 0.074716]
