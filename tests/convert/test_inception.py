"""Weights of InceptionV3 under PyTorch's names, and how they are folded."""

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert.inception import (
  NORM,
  fold,
  from_torch,
  make_rules,
  to_torch,
  unfolded,
  wanted,
)
from flowdistill.networks.features.inception import Inception
from flowdistill.training.named_arrays import by_name

SHAPES = {
  'Mixed_5b.branch1x1.kernel': (3, 5, 2, 4),
  'Mixed_5b.branch1x1.bias': (4,),
  'fc.kernel': (4, 6),
  'fc.bias': (6,),
}
THEIRS = {
  'Mixed_5b.branch1x1.conv.weight': (4, 2, 3, 5),
  'Mixed_5b.branch1x1.bn.weight': (4,),
  'Mixed_5b.branch1x1.bn.bias': (4,),
  'Mixed_5b.branch1x1.bn.running_mean': (4,),
  'Mixed_5b.branch1x1.bn.running_var': (4,),
  'fc.weight': (6, 4),
  'fc.bias': (6,),
}


@pytest.fixture
def theirs():
  rng = np.random.default_rng(0)
  return {n: rng.uniform(0.5, 2, s).astype('f4') for n, s in THEIRS.items()}


def test_there_and_back_to_the_bit(theirs):
  back = to_torch(unfolded(theirs, SHAPES))
  assert set(back) == set(theirs)
  for name, array in theirs.items():
    np.testing.assert_array_equal(back[name], array)


def test_folded_it_answers_as_convolution_and_normalisation(theirs):
  ours = from_torch(theirs, SHAPES)
  assert {n: a.shape for n, a in ours.items()} == SHAPES
  patch = np.random.default_rng(1).normal(size=(3, 5, 2))  # a pixel's window
  kernel, *norm = (theirs[n].astype(float) for n in list(THEIRS)[:5])
  scale, offset, mean, variance = norm
  before = np.einsum('hwi,oihw->o', patch, kernel)
  expected = (before - mean) / np.sqrt(variance + 0.001) * scale + offset
  found = np.einsum('hwi,hwio->o', patch, ours['Mixed_5b.branch1x1.kernel'])
  found = found + ours['Mixed_5b.branch1x1.bias']
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
  np.testing.assert_array_equal(ours['fc.kernel'], theirs['fc.weight'].T)


def test_every_parameter_of_the_network_has_its_rule():
  net = nnx.eval_shape(lambda: Inception(rngs=nnx.Rngs(0)))
  shapes = {n: leaf.shape for n, leaf in by_name(nnx.state(net)).items()}
  rules = make_rules(shapes)
  kernels = [n.removesuffix('.kernel') for n in shapes if n.endswith('kernel')]
  layers = [n for n in kernels if n != 'fc']
  ours = {f'{layer}.{n}' for layer in layers for n in ('kernel', *NORM)}
  assert {rule.ours for rule in rules} == ours | {'fc.kernel', 'fc.bias'}
  assert len(layers) == 94
  assert {rule.theirs for rule in rules} >= {
    'Conv2d_1a_3x3.conv.weight',
    'Mixed_7c.branch3x3dbl_3b.bn.running_var',
    'Mixed_6b.branch7x7dbl_5.bn.bias',
  }


def test_what_is_read_of_a_file():
  names = [*THEIRS, 'Conv2d_1a_3x3.bn.num_batches_tracked', 'step']
  assert wanted(names) == list(THEIRS)
  assert wanted(['module.fc.weight', 'AuxLogits.fc.bias']) == [
    'module.fc.weight'
  ]


def test_a_file_that_does_not_fit_is_refused(theirs):
  short = {n: a for n, a in theirs.items() if not n.endswith('running_mean')}
  message = r'InceptionV3 have no Mixed_5b\.branch1x1\.bn\.running_mean'
  with pytest.raises(ValueError, match=message):
    from_torch(short, SHAPES)
  message = r'fc\.bias of shape \[5\]; for the network it must be \[6\]'
  with pytest.raises(ValueError, match=message):
    from_torch(theirs | {'fc.bias': np.ones(5)}, SHAPES)
  more = {'Mixed_7d.branch1x1.conv.weight': np.ones((4, 2, 3, 5))}
  with pytest.raises(ValueError, match='the network has no such array'):
    from_torch(theirs | more, SHAPES)
  negative = {'Mixed_5b.branch1x1.bn.running_var': np.full(4, -1, 'f4')}
  with pytest.raises(ValueError, match='of -1; a variance must be at least 0'):
    from_torch(theirs | negative, SHAPES)


def test_folding_leaves_the_last_layer(theirs):
  arrays = unfolded(theirs, SHAPES)
  np.testing.assert_array_equal(fold(arrays)['fc.bias'], theirs['fc.bias'])
