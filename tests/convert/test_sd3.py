"""SD3's weights under the names of diffusers and of Stability AI."""

import functools

import numpy as np
import pytest
from networks import tiny_sd3

from flowdistill.convert import CONVERTERS, sd3
from flowdistill.convert.stacked_converter import NAMES, ORIGINAL

RULES = CONVERTERS['sd3']
BRANCHES = pytest.mark.parametrize('branch', tiny_sd3.BRANCHES)
MEDIUM = 'medium_3_5'
shapes_of = functools.cache(tiny_sd3.shapes_of)


def drawn(branch, **options):
  """Our arrays, random, and our shapes."""
  rng = np.random.default_rng(0)
  shapes = shapes_of(branch, **options)
  ours = {
    path: rng.normal(size=shape).astype(np.float32)
    for path, shape in shapes.items()
  }
  return ours, shapes


def assert_equal(found, wanted):
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    assert found[name].shape == array.shape, name
    assert found[name].tobytes() == array.tobytes(), name


@BRANCHES
@pytest.mark.parametrize('names', NAMES)
def test_there_and_back_to_the_bit(branch, names):
  ours, shapes = drawn(branch)
  theirs = RULES.to_torch(ours, 0, names=names)
  back = RULES.from_torch(theirs, shapes)
  assert_equal(back, ours)
  assert_equal(RULES.to_torch(back, 0, names=names), theirs)
  assert set(RULES.wanted([*theirs, 'vae.x', 'model.step'], ema=True)) == set(
    theirs
  )


@pytest.mark.parametrize('names', NAMES)
def test_what_only_ours_has_is_there_and_back(names):
  """And weights without it are read."""
  ours, _ = drawn(MEDIUM)
  plain = RULES.to_torch(ours, 0, names=names)
  shapes, rng = shapes_of(MEDIUM, two_times=True), np.random.default_rng(1)
  alone = {p: s for p, s in shapes.items() if p not in ours}
  assert {path.split('.')[1] for path in alone} == {'of_s', 'sign', 'of'}
  ours |= {
    path: rng.normal(size=shape).astype(np.float32)
    for path, shape in alone.items()
  }
  theirs = RULES.to_torch(ours, 0, names=names)
  assert 'time_text_embed_2.timestep_embedder.linear_1.weight' in theirs
  assert len(theirs) == len(plain) + len(alone)
  assert_equal(RULES.from_torch(theirs, shapes), ours)
  assert RULES.from_torch(plain, shapes).keys() == ours.keys() - alone.keys()
  assert RULES.constants(theirs, shapes) == {'position'}


def test_a_whole_checkpoint_of_stability_ai_is_read():
  ours, shapes = drawn(MEDIUM)
  theirs = RULES.to_torch(ours, 0, 'model.diffusion_model.', names=ORIGINAL)
  others = {
    'first_stage_model.decoder.conv_in.weight': np.zeros(3),
    'text_encoders.clip_l.logit_scale': np.zeros(3),
    'model.model_sampling.sigmas': np.zeros(3),
  }
  wanted = RULES.wanted({**theirs, **others}, ema=True)
  assert set(wanted) == set(theirs)
  assert_equal(RULES.from_torch(theirs, shapes), ours)
  assert RULES.naming.find(wanted).prefixes['params'] == [
    'model.diffusion_model.'
  ]


def test_names_and_layouts():
  """Of block 2 of 4, which is the first that has no second attention."""
  ours, _ = drawn(MEDIUM)
  theirs = RULES.to_torch(ours, 0)
  original = RULES.to_torch(ours, 0, names=ORIGINAL)
  assert theirs['pos_embed.proj.weight'].shape == (16, 3, 2, 2)
  assert (
    ours['first.kernel'][1, 0, 2, 5]
    == theirs['pos_embed.proj.weight'][5, 2, 1, 0]
  )
  query = theirs['transformer_blocks.2.attn.to_q.weight']
  kernel = ours['blocks_1.each.picture.project.query.kernel'][0]
  np.testing.assert_array_equal(query, kernel.T)
  fused = original['joint_blocks.2.x_block.attn.qkv.weight']
  np.testing.assert_array_equal(fused[:16], query)
  assert 'transformer_blocks.1.attn2.norm_k.weight' in theirs
  assert 'joint_blocks.1.x_block.attn2.ln_k.weight' in original
  for name in ('attn2.to_q.weight', 'attn2.to_out.0.bias'):
    assert f'transformer_blocks.2.{name}' not in theirs
  assert 'transformer_blocks.3.attn.add_q_proj.weight' in theirs
  for name in ('attn.to_add_out.weight', 'ff_context.net.2.bias'):
    assert f'transformer_blocks.3.{name}' not in theirs
    assert f'transformer_blocks.2.{name}' in theirs


SWAPPED = {
  'norm_out.linear.bias': 'final_layer.adaLN_modulation.1.bias',
  'transformer_blocks.3.norm1_context.linear.bias': (
    'joint_blocks.3.context_block.adaLN_modulation.1.bias'
  ),
}
SAME = {
  'transformer_blocks.2.norm1_context.linear.bias': (
    'joint_blocks.2.context_block.adaLN_modulation.1.bias'
  ),
  'transformer_blocks.3.norm1.linear.bias': (
    'joint_blocks.3.x_block.adaLN_modulation.1.bias'
  ),
}


def test_shift_and_scale_are_swapped_in_the_head_and_the_last_text():
  ours, _ = drawn(MEDIUM)
  theirs = RULES.to_torch(ours, 0)
  original = RULES.to_torch(ours, 0, names=ORIGINAL)
  for here, there in SWAPPED.items():
    np.testing.assert_array_equal(
      original[there], np.roll(theirs[here], len(theirs[here]) // 2)
    )
  for here, there in SAME.items():
    np.testing.assert_array_equal(original[there], theirs[here])


@pytest.mark.slow
@BRANCHES
def test_the_original_names_are_those_that_diffusers_reads(branch):
  reader = pytest.importorskip('diffusers.loaders.single_file_utils')
  torch = pytest.importorskip('torch')
  ours, _ = drawn(branch)
  original = RULES.to_torch(ours, 0, 'model.diffusion_model.', names=ORIGINAL)
  found = reader.convert_sd3_transformer_checkpoint_to_diffusers(
    {n: torch.from_numpy(a.copy()) for n, a in original.items()}
  )
  found = {n: a.numpy() for n, a in found.items()}
  assert_equal(found, RULES.to_torch(ours, 0))


QKV = 'joint_blocks.0.x_block.attn.qkv.weight'
BAD = [
  ({'pos_embed': None}, 'SD3 have no pos_embed.pos_embed'),
  (
    {'joint_blocks.9.x_block.mlp.fc1.bias': np.ones(64)},
    'have transformer_blocks.9.ff.net.0.proj.bias, and the network has no',
  ),
  ({QKV: np.ones((47, 16))}, rf'{QKV} has the shape \[47, 16\], which are '),
  (
    {QKV: np.ones((48, 8))},
    r'attn.to_k.weight of shape \[16, 8\]; .* \[16, ',
  ),
  ({QKV: np.float32(1)}, r'has the shape \[\], which are not queries'),
  (
    {'pos_embed.pos_embed': np.ones((1, 64, 16))},
    'pos_embed and pos_embed.pos_embed are one array: save one of them',
  ),
  (
    {'joint_blocks.0.x_block.attn.other.weight': np.ones(3)},
    'have joint_blocks.0.x_block.attn.other.weight, and the network has no',
  ),
  (
    {'final_layer.adaLN_modulation.1.bias': np.ones(31)},
    r'norm_out.linear.bias of shape \[31\]; .* \[32\]',
  ),
]


@pytest.mark.parametrize(('change', 'message'), BAD)
def test_weights_that_do_not_fit_are_refused(change, message):
  ours, shapes = drawn(MEDIUM)
  theirs = {**RULES.to_torch(ours, 0, names=ORIGINAL), **change}
  theirs = {n: a for n, a in theirs.items() if a is not None}
  with pytest.raises(ValueError, match=message):
    RULES.from_torch(theirs, shapes)


def test_weights_of_another_sd3_are_refused():
  theirs = RULES.to_torch(drawn(MEDIUM)[0], 0)
  deeper = shapes_of('large_3_5')
  with pytest.raises(ValueError, match='SD3 have '):
    RULES.from_torch(theirs, deeper)
  with pytest.raises(ValueError, match="names = 'flax' must be one of"):
    RULES.to_torch(drawn(MEDIUM)[0], 0, names='flax')
  with pytest.raises(ValueError, match='^conv.kernel is no array of an SD3'):
    sd3.make_rules({'conv.kernel': (2, 2)})
