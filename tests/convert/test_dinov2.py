"""Weights of DINOv2 under the names of three libraries."""

import numpy as np
import pytest
from networks.features.loading import abstract, shapes_of
from networks.features.test_dinov2 import TINY, make

from flowdistill.convert.dinov2 import (
  DIALECTS,
  RULES,
  from_torch,
  to_torch,
  wanted,
)

SHAPES = shapes_of(abstract(lambda: make(**TINY))[1])
RNG = np.random.default_rng(0)
OURS = {n: RNG.normal(size=s).astype('f4') for n, s in SHAPES.items()}


def test_the_rules_are_the_parameters_of_the_network():
  assert set(RULES) == set(SHAPES)


@pytest.mark.parametrize('dialect', DIALECTS)
def test_there_and_back_to_the_bit(dialect):
  theirs = to_torch(OURS, dialect)
  back = from_torch(theirs, SHAPES)
  assert set(back) == set(OURS)
  for path, array in OURS.items():
    np.testing.assert_array_equal(back[path], array)
  for name, array in to_torch(back, dialect).items():
    np.testing.assert_array_equal(theirs[name], array)


def test_names_and_layout_of_the_original():
  theirs = to_torch(OURS, 'original')
  width = TINY['width']
  shapes = {n: a.shape for n, a in theirs.items() if 'blocks.1' not in n}
  assert shapes == {
    'cls_token': (1, 1, width),
    'pos_embed': (1, 26, width),
    'patch_embed.proj.weight': (width, 3, 4, 4),
    'patch_embed.proj.bias': (width,),
    'norm.weight': (width,),
    'norm.bias': (width,),
    'blocks.0.norm1.weight': (width,),
    'blocks.0.norm1.bias': (width,),
    'blocks.0.attn.qkv.weight': (3 * width, width),
    'blocks.0.attn.qkv.bias': (3 * width,),
    'blocks.0.attn.proj.weight': (width, width),
    'blocks.0.attn.proj.bias': (width,),
    'blocks.0.ls1.gamma': (width,),
    'blocks.0.norm2.weight': (width,),
    'blocks.0.norm2.bias': (width,),
    'blocks.0.mlp.fc1.weight': (4 * width, width),
    'blocks.0.mlp.fc1.bias': (4 * width,),
    'blocks.0.mlp.fc2.weight': (width, 4 * width),
    'blocks.0.mlp.fc2.bias': (width,),
    'blocks.0.ls2.gamma': (width,),
  }
  fc1 = theirs['blocks.1.mlp.fc1.weight']
  assert fc1[7, 3] == OURS['layers.each.fc1.kernel'][1, 3, 7]


def test_q_k_and_v_are_joined_in_this_order():
  theirs = to_torch(OURS, 'transformers')
  above = 'encoder.layer.1.attention.attention'
  parts = [theirs[f'{above}.{n}.weight'] for n in ('query', 'key', 'value')]
  whole = to_torch(OURS, 'original')['blocks.1.attn.qkv.weight']
  np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_read_of_a_file():
  names = ['module.cls_token', 'mask_token', 'head.weight', 'ibot.norm.weight']
  assert wanted([*names, 'norm.weight']) == ['module.cls_token', 'norm.weight']


def test_a_file_that_does_not_fit_is_refused():
  theirs = to_torch(OURS, 'original')
  short = {n: a for n, a in theirs.items() if n != 'blocks.1.ls2.gamma'}
  with pytest.raises(ValueError, match=r'DINOv2 have no blocks\.1\.ls2\.gamma'):
    from_torch(short, SHAPES)
  message = r'norm\.bias of shape \[7\]; for the network it must be \[24\]'
  with pytest.raises(ValueError, match=message):
    from_torch(theirs | {'norm.bias': np.ones(7)}, SHAPES)
  for more in ('register_tokens', 'blocks.2.ls1.gamma'):
    with pytest.raises(
      ValueError, match=f'have {more}, and the network has no'
    ):
      from_torch(theirs | {more: np.ones(3)}, SHAPES)
