"""Weights of the KL autoencoder under the names of diffusers."""

import functools

import numpy as np
import pytest
from autoencoders.test_kl import PLAIN, TINY, make, weights_of
from networks.features.loading import abstract, shapes_of

from flowdistill.convert.kl import NAMES, from_torch, to_torch, wanted

PARAMS = abstract(lambda: make(**TINY))[1]
SHAPES, OURS = shapes_of(PARAMS), weights_of(PARAMS)
MIDDLE = 'encoder.mid_block.attentions.0'


@functools.cache
def plain():
  return abstract(lambda: make(**TINY, **PLAIN))[1]


def assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize('names', NAMES)
def test_there_and_back_to_the_bit(names):
  theirs = to_torch(OURS, names=names)
  back = from_torch(theirs, SHAPES)
  assert_equal(back, OURS)
  assert_equal(to_torch(back, names=names), theirs)


@pytest.mark.parametrize('names', NAMES)
@pytest.mark.parametrize('prefix', ['', 'first_stage_model.'])
def test_so_are_those_of_sd3_and_flux(names, prefix):
  """16 channels, without convolutions around the latents."""
  params = plain()
  ours = weights_of(params)
  theirs = to_torch(ours, names=names)
  assert not any('quant' in name for name in theirs)
  below = {f'{prefix}{name}': array for name, array in theirs.items()}
  others = {'model.diffusion_model.pos_embed': np.zeros(3)}
  assert set(wanted({**below, **others})) == set(below)
  back = from_torch(below, shapes_of(params))
  assert_equal(back, ours)
  assert_equal(to_torch(back, names=names), theirs)


BY_HAND = {
  'encoder.conv_in.weight': 'encoder.conv_in.weight',
  'encoder.down.0.block.0.norm1.weight': 'encoder.down_blocks.0.resnets.0.norm1'
  '.weight',
  'encoder.down.0.downsample.conv.bias': 'encoder.down_blocks.0.downsamplers.0'
  '.conv.bias',
  'encoder.down.1.block.0.nin_shortcut.weight': 'encoder.down_blocks.1'
  '.resnets.0.conv_shortcut.weight',
  'encoder.mid.block_1.conv1.weight': 'encoder.mid_block.resnets.0.conv1'
  '.weight',
  'encoder.mid.block_2.conv2.bias': 'encoder.mid_block.resnets.1.conv2.bias',
  'encoder.norm_out.weight': 'encoder.conv_norm_out.weight',
  'decoder.mid.attn_1.norm.bias': 'decoder.mid_block.attentions.0.group_norm'
  '.bias',
  'decoder.up.1.block.1.conv1.weight': 'decoder.up_blocks.0.resnets.1.conv1'
  '.weight',
  'decoder.up.1.upsample.conv.weight': 'decoder.up_blocks.0.upsamplers.0.conv'
  '.weight',
  'decoder.up.0.block.0.nin_shortcut.bias': 'decoder.up_blocks.1.resnets.0'
  '.conv_shortcut.bias',
  'decoder.conv_out.bias': 'decoder.conv_out.bias',
  'post_quant_conv.weight': 'post_quant_conv.weight',
}


def test_names_of_compvis_are_those_of_its_code():
  """The levels of the decoder are counted from the largest image down."""
  compvis, newer = to_torch(OURS, names='compvis'), to_torch(OURS)
  assert len(compvis) == len(newer)
  for there, here in BY_HAND.items():
    np.testing.assert_array_equal(compvis[there], newer[here])
  for part, other in zip('qkv', ('to_q', 'to_k', 'to_v'), strict=True):
    found = compvis[f'encoder.mid.attn_1.{part}.weight']
    wanted = newer[f'{MIDDLE}.{other}.weight']
    assert found.shape == (*wanted.shape, 1, 1)
    np.testing.assert_array_equal(found[..., 0, 0], wanted)
  assert not any('_block' in n and 'mid.block' not in n for n in compvis)


def test_the_autoencoder_of_a_whole_checkpoint_is_read():
  inside = {
    f'state_dict.first_stage_model.{n}': a
    for n, a in to_torch(OURS, names='compvis').items()
  }
  others = {
    'state_dict.model.diffusion_model.out.2.bias': np.zeros(4, np.float32),
    'state_dict.cond_stage_model.encoder.down.0.x': np.zeros(4, np.float32),
  }
  assert set(wanted({**inside, **others})) == set(inside)
  assert_equal(from_torch(inside, SHAPES), OURS)


def test_one_array_under_two_names_is_refused():
  compvis, newer = to_torch(OURS, names='compvis'), to_torch(OURS)
  both = {**newer, 'encoder.norm_out.bias': compvis['encoder.norm_out.bias']}
  with pytest.raises(ValueError, match='are one array: save one of them'):
    from_torch(both, SHAPES)


def test_names_of_compiled_modules_are_read():
  theirs = to_torch(OURS, names='compvis')
  compiled = {
    n.replace('coder.', 'coder._orig_mod.'): a for n, a in theirs.items()
  }
  assert_equal(from_torch(compiled, SHAPES), OURS)


@pytest.mark.parametrize('levels', [1, 3])
def test_any_number_of_levels_comes_back(levels):
  params = abstract(
    lambda: make(**{**TINY, 'block_out_channels': (8,) * levels})
  )[1]
  ours = weights_of(params)
  theirs = to_torch(ours, names='compvis')
  assert f'decoder.up.{levels - 1}.block.0.conv1.weight' in theirs
  assert_equal(from_torch(theirs, shapes_of(params)), ours)


def test_names_and_layout():
  theirs = to_torch(OURS)
  kernel = theirs['encoder.down_blocks.0.resnets.0.conv1.weight']
  ours = OURS['encoder.down_blocks.0.resnets.0.conv1.kernel']
  assert kernel[3, 1, 2, 0] == ours[2, 0, 1, 3]
  linear = theirs[f'{MIDDLE}.to_q.weight']
  assert linear[3, 1] == OURS[f'{MIDDLE}.to_q.kernel'][1, 3]
  assert {n for n in theirs if 'down_blocks.0.' in n and 'bias' not in n} == {
    f'encoder.down_blocks.0.{name}.weight'
    for name in (
      'resnets.0.norm1',
      'resnets.0.conv1',
      'resnets.0.norm2',
      'resnets.0.conv2',
      'downsamplers.0.conv',
    )
  }
  for name in (
    'quant_conv.weight',
    'post_quant_conv.bias',
    'decoder.conv_norm_out.weight',
    'decoder.up_blocks.0.upsamplers.0.conv.weight',
    'decoder.up_blocks.1.resnets.0.conv_shortcut.bias',
    'decoder.mid_block.attentions.0.to_out.0.weight',
  ):
    assert name in theirs


def test_older_names_of_the_attention_and_of_nothing_else():
  newer, older = to_torch(OURS), to_torch(OURS, names='older')
  parts = {
    name.removeprefix(MIDDLE)
    for name in older.keys() - newer.keys()
    if name.startswith(MIDDLE)
  }
  assert parts == {
    f'.{part}.{kind}'
    for part in ('query', 'key', 'value', 'proj_attn')
    for kind in ('weight', 'bias')
  }
  old, new = (
    a[f'{MIDDLE}.{part}.weight']
    for a, part in ((older, 'proj_attn'), (newer, 'to_out.0'))
  )
  np.testing.assert_array_equal(old, new)


def test_halves_prefixes_and_projections_as_convolutions():
  theirs = {
    f'model.{name}': array.astype(np.float16)
    for name, array in to_torch(OURS, names='older').items()
  }
  name = f'model.{MIDDLE}.query.weight'
  theirs[name] = theirs[name][:, :, None, None]
  back = from_torch(theirs, SHAPES)
  for path, array in back.items():
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, OURS[path], atol=1e-3)


def test_what_is_read_of_a_file():
  names = ['quant_conv.weight', 'unet.conv_in.weight', 'loss.logvar']
  assert wanted(names) == ['quant_conv.weight']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'quant_conv.bias': None}, 'have no quant_conv.bias'),
    ({'quant_conv.bias': np.ones(3)}, r'of shape \[3\]; .* must be \[8\]'),
    (
      {'encoder.down_blocks.2.resnets.0.norm1.bias': np.ones(3)},
      'the network has no such array',
    ),
    (
      {f'{MIDDLE}.query.bias': np.ones(16)},
      'query.bias and .*to_q.bias are one array',
    ),
    ({f'{MIDDLE}.to_k.weight': np.ones((16, 16, 3, 3))}, r'\[16, 16, 3, 3\]'),
  ],
)
def test_a_file_that_does_not_fit_is_refused(change, message):
  theirs = {**to_torch(OURS), **change}
  theirs = {name: a for name, a in theirs.items() if a is not None}
  with pytest.raises(ValueError, match=message):
    from_torch(theirs, SHAPES)
