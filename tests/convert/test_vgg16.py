"""Weights of VGG16 under torchvision's names, on layers of small width."""

import numpy as np
import pytest
from networks.features.test_vgg16 import PARAMS

from flowdistill.convert.vgg16 import RULES, from_torch, to_torch, wanted
from flowdistill.training.named_arrays import by_name

SHAPES = {
  path: (3, 3, 2, 4) if path.endswith('kernel') else (4,) for path in RULES
} | {'fc1.kernel': (2, 2, 512, 3), 'fc1.bias': (3,), 'fc2.kernel': (3, 5)}
RNG = np.random.default_rng(0)
OURS = {n: RNG.normal(size=s).astype('f4') for n, s in SHAPES.items()}


def test_the_rules_are_the_parameters_of_the_network():
  assert set(RULES) == set(by_name(PARAMS))


def test_there_and_back_to_the_bit():
  theirs = to_torch(OURS)
  back = from_torch(theirs, SHAPES)
  assert set(back) == set(OURS)
  for path, array in OURS.items():
    np.testing.assert_array_equal(back[path], array)
  for name, array in to_torch(back).items():
    np.testing.assert_array_equal(theirs[name], array)


def test_the_hidden_layer_sees_channels_before_rows():
  flat = to_torch(OURS)['classifier.0.weight']
  assert flat.shape == (3, 512 * 4)
  channel, row, column = 7, 1, 0
  place = (channel * 2 + row) * 2 + column
  assert flat[2, place] == OURS['fc1.kernel'][row, column, channel, 2]


def test_what_is_read_of_a_file():
  theirs = to_torch(OURS)
  assert len(theirs) == 2 * (13 + 2)
  more = ['classifier.6.weight', 'classifier.6.bias', 'avgpool']
  assert wanted([*theirs, *more]) == list(theirs)


def test_a_file_that_does_not_fit_is_refused():
  theirs = to_torch(OURS)
  short = {n: a for n, a in theirs.items() if n != 'features.28.bias'}
  with pytest.raises(ValueError, match=r'VGG16 have no features\.28\.bias'):
    from_torch(short, SHAPES)
  wrong = theirs | {'classifier.0.weight': np.ones((3, 99))}
  with pytest.raises(ValueError, match=r'classifier\.0\.weight of shape'):
    from_torch(wrong, SHAPES)
  for axes in (0, 1):
    wrong = theirs | {'classifier.0.weight': np.ones((2048,) * axes)}
    with pytest.raises(ValueError, match=r'classifier\.0\.weight of shape'):
      from_torch(wrong, SHAPES)
