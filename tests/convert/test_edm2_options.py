"""Options that no array shows are compared with how a snapshot was made."""

import pytest

from flowdistill.convert.edm2_options import changes
from flowdistill.convert.modules import Made

OURS = {
  'name': 'edm2',
  'width': 192,
  'res_blocks': 3,
  'ch_mult': (1, 2, 3, 4),
  'attention': (16, 8),
  'head_channels': 64,
  'fir': False,
  'sigma_data': 0.5,
  'dropout': 0.0,
}
PUBLISHED = {
  'model_channels': 192,
  'dropout': 0.1,
  'use_fp16': True,
  'img_resolution': 64,
  'img_channels': 4,
  'label_dim': 1000,
}


@pytest.mark.parametrize(
  ('theirs', 'expected'),
  [
    ({}, {}),
    ({'channels_per_head': 32}, {'head_channels': 32}),
    ({'sigma_data': 1.0}, {'sigma_data': 1.0}),
    ({'resample_filter': [1, 3, 3, 1]}, {'fir': True}),
    ({'resample_filter': (1, 1), 'clip_act': 256}, {}),
    ({'attn_resolutions': [8, 16]}, {}),
    ({'attn_resolutions': [32, 8, 7]}, {'attention': (32, 8)}),
    ({'img_resolution': 32}, {}),  # it has levels of 16 and 8 too
    ({'img_resolution': 128}, {'attention': (16,)}),
    ({'channel_mult': [1, 2, 3, 4, 4]}, {'ch_mult': (1, 2, 3, 4, 4)}),
    (
      {'model_channels': 128, 'num_blocks': 2},
      {'width': 128, 'res_blocks': 2},
    ),
  ],
)
def test_the_options_that_must_be_others(theirs, expected):
  assert changes(Made('Precond', PUBLISHED | theirs), OURS) == expected


def test_heights_have_no_order_in_ours():
  network = OURS | {'attention': [8, 16]}
  assert changes(Made('Precond', PUBLISHED), network) == {}


def test_without_arguments_nothing_is_compared():
  assert changes(Made('Precond', None), OURS) == {}


@pytest.mark.parametrize('options', [PUBLISHED, None])
def test_theirs_embeds_the_noise_level(options):
  wanted = changes(Made('Precond', options), OURS | {'time': 'linear'})
  assert wanted == {'time': 'edm'}


@pytest.mark.parametrize(
  ('made', 'message'),
  [
    (
      Made('EDMPrecond', {}),
      'a snapshot of EDMPrecond, and must be one of Pre',
    ),
    (Made('Precond', {'clip_act': None}), 'clip_act = None, which must be 256'),
    (
      Made('Precond', {'label_balance': 0.3}),
      'label_balance = 0.3, which must',
    ),
    (
      Made('Precond', {'resample_filter': [1, 2]}),
      r'must be \[1, 1\] or \[1, ',
    ),
    (Made('Precond', {'attn_resolutions': 8}), 'attn_resolutions = 8'),
    (Made('Precond', {'resample_filter': [[1], 1]}), r'resample_filter = '),
    (Made('Precond', {'img_resolution': 'x'}), "img_resolution = 'x'"),
    (Made('Precond', {'channel_mult': None}), 'channel_mult = None'),
    (Made('Precond', {'attn_resolutions': ['a', 1]}), 'attn_resolutions = '),
  ],
)
def test_a_network_that_ours_cannot_be(made, message):
  with pytest.raises(ValueError, match=message):
    changes(made, OURS)
