"""Weights of the KL autoencoder under the names of diffusers."""

import numpy as np
import pytest
from autoencoders.test_kl import TINY, make, weights_of
from networks.features.loading import abstract, shapes_of

from flowdistill.convert.kl import from_torch, to_torch, wanted

PARAMS = abstract(lambda: make(**TINY))[1]
SHAPES, OURS = shapes_of(PARAMS), weights_of(PARAMS)
MIDDLE = 'encoder.mid_block.attentions.0'


def assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize('older', [False, True])
def test_there_and_back_to_the_bit(older):
  theirs = to_torch(OURS, older=older)
  back = from_torch(theirs, SHAPES)
  assert_equal(back, OURS)
  assert_equal(to_torch(back, older=older), theirs)


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
  newer, older = to_torch(OURS), to_torch(OURS, older=True)
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
    for name, array in to_torch(OURS, older=True).items()
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
