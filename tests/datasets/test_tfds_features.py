"""Which features are the picture and the class."""

import numpy as np
import pytest
from tensorflow_datasets import features

from flowdistill.datasets.tfds_features import (
  class_names,
  image_key,
  label_key,
  leaf,
  leaves,
  nested,
)

IMAGE = features.Image(shape=(4, 4, 3))
CLASSES = features.ClassLabel(num_classes=7)
FLAG = features.Scalar(np.bool_)
NUMBER = features.Scalar(np.int64)


def test_the_leaves_of_nested_features():
  found = features.FeaturesDict(
    {'a': IMAGE, 'b': {'c': np.bool_, 'd': CLASSES}}
  )
  assert sorted(leaves(found)) == ['a', 'b/c', 'b/d']


def test_nested_and_leaf_are_inverse():
  flat = {'a': 1, 'b/c': 2, 'b/d/e': 3, 'b/d/f': 4}
  tree = nested(flat)
  assert tree == {'a': 1, 'b': {'c': 2, 'd': {'e': 3, 'f': 4}}}
  assert {key: leaf(tree, key) for key in flat} == flat


def test_how_many_classes_there_are():
  kinds = [IMAGE, CLASSES, FLAG, NUMBER, features.Text()]
  assert [len(class_names(kind)) for kind in kinds] == [0, 7, 2, 0, 0]
  assert class_names(features.Tensor(shape=(3,), dtype=np.bool_)) == ()


def test_classes_have_the_names_of_tfds():
  named = features.ClassLabel(names=['cat', 'dog'])
  assert class_names(named) == ('cat', 'dog')
  assert class_names(CLASSES) == tuple('0123456')


def test_the_only_one_is_found():
  mask = features.LabeledImage(labels=5, shape=(4, 4, 1))
  depths = features.Image(shape=(4, 4, 1), dtype=np.float32)
  found = {'n': NUMBER, 'x': IMAGE, 'm': mask, 'd': depths, 'y': CLASSES}
  assert image_key(found, None) == 'x'
  assert label_key({**found, 'f': FLAG}, None) == 'y'
  assert label_key({**found, 'f': FLAG}, 'f') == 'f'


@pytest.mark.parametrize(
  ('find', 'found', 'key', 'message'),
  [
    (image_key, {'a': IMAGE, 'b': IMAGE}, None, 'image = None.* one of a, b'),
    (image_key, {'a': IMAGE, 'b': NUMBER}, 'b', "image = 'b' .* one of a$"),
    (image_key, {'a': NUMBER}, None, 'image = None .* none among a$'),
    (label_key, {'a': CLASSES, 'b': CLASSES}, None, 'label = None.* of a, b;'),
    (label_key, {'a': FLAG, 'b': IMAGE}, None, 'label = None .* one of a;'),
    (label_key, {'b': IMAGE}, None, 'none among b; by_class = False ignores'),
    (label_key, {'a': CLASSES, 'b': IMAGE}, 'b', "label = 'b' .* one of a;"),
  ],
)
def test_what_cannot_be_found_is_explained(find, found, key, message):
  with pytest.raises(ValueError, match=message):
    find(found, key)
