"""Weights of LPIPS under PyTorch's names, on networks of width 2."""

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert.lpips import DIALECTS, RULES, from_torch, to_torch
from flowdistill.networks.lpips import LPIPS
from flowdistill.training.named_arrays import by_name

BOTH = pytest.mark.parametrize('dialect', DIALECTS)
SHAPES = {
  path: {'kernel': (3, 3, 2, 4), 'bias': (4,)}[path.rpartition('.')[2]]
  for path in RULES
}


@pytest.fixture
def ours():
  rng = np.random.default_rng(0)
  return {
    path: rng.normal(size=shape).astype(np.float32)
    for path, shape in SHAPES.items()
  }


def test_the_rules_are_the_parameters_of_the_network():
  net = nnx.eval_shape(lambda: LPIPS(rngs=nnx.Rngs(0)))
  assert set(RULES) == set(by_name(nnx.state(net)))


@BOTH
def test_there_and_back(ours, dialect):
  theirs = to_torch(ours, dialect)
  assert len(theirs) == len(ours)
  back = from_torch(theirs, SHAPES)
  for path, array in ours.items():
    np.testing.assert_array_equal(back[path], array)
  for name, array in to_torch(back, dialect).items():
    np.testing.assert_array_equal(theirs[name], array)


def test_names_and_layout_of_torchvision(ours):
  theirs = to_torch(ours, 'torchvision')
  layers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
  for i, layer in enumerate(layers):  # out, in, h, w
    kernel = theirs[f'features.{layer}.weight']
    assert kernel[3, 1, 2, 0] == ours[f'convs.{i}.kernel'][2, 0, 1, 3]
    bias = theirs[f'features.{layer}.bias']
    np.testing.assert_array_equal(bias, ours[f'convs.{i}.bias'])
  for i in range(5):
    lin = theirs[f'lin{i}.model.1.weight']
    assert lin[3, 1, 2, 0] == ours[f'lins.{i}.kernel'][2, 0, 1, 3]


def test_names_of_lpips(ours):
  here, there = (list(to_torch(ours, d)) for d in DIALECTS)
  assert len(here) == len(there) == 2 * 13 + 5
  assert 'net.slice1.0.weight' in there
  assert 'net.slice5.28.bias' in there
  for a, b in zip(here, there, strict=True):  # the same number in both
    assert a.split('.')[-2:] == b.split('.')[-2:]


def test_halves_become_floats_and_other_names_are_ignored(ours):
  theirs = to_torch(ours, 'torchvision')
  halves = {name: array.astype(np.float16) for name, array in theirs.items()}
  more = {'classifier.0.weight': np.ones(3), 'scaling_layer.shift': np.ones(3)}
  found = from_torch(halves | more, SHAPES)
  assert set(found) == set(SHAPES)
  for path, array in found.items():
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, ours[path], rtol=1e-3)


@BOTH
def test_a_missing_array_is_named_in_both_dialects(ours, dialect):
  theirs = to_torch(ours, dialect)
  del theirs[RULES['convs.2.bias'][DIALECTS.index(dialect)]]
  with pytest.raises(ValueError, match=r'features\.5\.bias or net\.slice2\.5'):
    from_torch(theirs, SHAPES)
  theirs = to_torch(ours, dialect)
  del theirs['lin3.model.1.weight']
  with pytest.raises(ValueError, match=r'have no lin3\.model\.1\.weight$'):
    from_torch(theirs, SHAPES)


def test_an_array_of_another_shape_is_named(ours):
  theirs = to_torch(ours, 'lpips')
  theirs['net.slice2.5.weight'] = np.ones((5, 2, 3, 3))
  message = r'net\.slice2\.5\.weight of shape \[5, 2, 3, 3\].*\[4, 2, 3, 3\]'
  with pytest.raises(ValueError, match=message):
    from_torch(theirs, SHAPES)
