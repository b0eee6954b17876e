"""Weights of CLIP under the names of two libraries."""

import numpy as np
import pytest
from networks.features.loading import abstract, shapes_of
from networks.features.test_clip import TINY, make

from flowdistill.convert.clip import (
  DIALECTS,
  RULES,
  from_torch,
  to_torch,
  wanted,
)

SHAPES = shapes_of(abstract(lambda: make(TINY))[1])
RNG = np.random.default_rng(0)
OURS = {
  n: np.asarray(RNG.normal(size=s), np.float32) for n, s in SHAPES.items()
}


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


def test_names_and_layout_of_openai():
  theirs = to_torch(OURS, 'openai')
  layer = {
    'ln_1.weight': (24,),
    'ln_1.bias': (24,),
    'attn.in_proj_weight': (72, 24),
    'attn.in_proj_bias': (72,),
    'attn.out_proj.weight': (24, 24),
    'attn.out_proj.bias': (24,),
    'ln_2.weight': (24,),
    'ln_2.bias': (24,),
    'mlp.c_fc.weight': (96, 24),
    'mlp.c_fc.bias': (96,),
    'mlp.c_proj.weight': (24, 96),
    'mlp.c_proj.bias': (24,),
  }
  above = 'visual.transformer.resblocks.1'
  for name, shape in layer.items():
    assert theirs[f'{above}.{name}'].shape == shape
    assert f'transformer.resblocks.1.{name}' in theirs
  once = {n: a.shape for n, a in theirs.items() if 'resblocks' not in n}
  assert once == {
    'logit_scale': (),
    'positional_embedding': (7, 16),
    'text_projection': (16, 10),
    'token_embedding.weight': (30, 16),
    'ln_final.weight': (16,),
    'ln_final.bias': (16,),
    'visual.class_embedding': (24,),
    'visual.positional_embedding': (10, 24),
    'visual.proj': (24, 10),
    'visual.conv1.weight': (24, 3, 4, 4),
    'visual.ln_pre.weight': (24,),
    'visual.ln_pre.bias': (24,),
    'visual.ln_post.weight': (24,),
    'visual.ln_post.bias': (24,),
  }


def test_projections_of_the_two_are_transposed():
  openai, others = (to_torch(OURS, dialect) for dialect in DIALECTS)
  for here, there in (
    ('visual.proj', 'visual_projection.weight'),
    ('text_projection', 'text_projection.weight'),
  ):
    np.testing.assert_array_equal(openai[here], others[there].T)
  fused = openai['transformer.resblocks.0.attn.in_proj_weight']
  above = 'text_model.encoder.layers.0.self_attn'
  parts = [others[f'{above}.{n}_proj.weight'] for n in 'qkv']
  np.testing.assert_array_equal(fused, np.concatenate(parts))


def test_halves_are_read_and_other_names_ignored():
  theirs = to_torch(OURS, 'openai')
  halves = {n: a.astype(np.float16) for n, a in theirs.items()}
  more = ['text_model.embeddings.position_ids', 'input_resolution']
  assert wanted([*theirs, *more]) == list(theirs)
  found = from_torch(halves, SHAPES)
  assert {a.dtype for a in found.values()} == {np.dtype(np.float32)}


def test_a_file_that_does_not_fit_is_refused():
  theirs = to_torch(OURS, 'transformers')
  name = 'vision_model.encoder.layers.0.self_attn.k_proj.bias'
  short = {n: a for n, a in theirs.items() if n != name}
  with pytest.raises(ValueError, match=f'CLIP have no {name}'):
    from_torch(short, SHAPES)
  with pytest.raises(ValueError, match=r'k_proj\.bias of shape \[9\]'):
    from_torch(theirs | {name: np.ones(9)}, SHAPES)
  more = 'text_model.encoder.layers.2.mlp.fc1.bias'
  with pytest.raises(ValueError, match=f'have {more}, and the network has no'):
    from_torch(theirs | {more: np.ones(9)}, SHAPES)
