"""Options that no array shows are compared with how a snapshot was made."""

import pytest

from flowdistill.convert.edm_options import changes
from flowdistill.convert.modules import Made

SONG = {
  'name': 'edm_ncsnpp',
  'nf': 128,
  'res_blocks': 4,
  'ch_mult': (2, 2, 2),
  'attention': (16,),
  'embedding_type': 'positional',
  'noise_mult': 1,
  'embedding_mult': 4,
  'fir': False,
  'progressive': 'none',
  'progressive_input': 'none',
  'augment_dim': 9,
  'precond': 'edm',
  'sigma_data': 0.5,
  'time': 'edm',
}
ADM = {
  'name': 'edm_adm',
  'nf': 192,
  'res_blocks': 3,
  'ch_mult': (1, 2, 3, 4),
  'attention': (32, 16, 8),
  'embedding_mult': 4,
  'augment_dim': 0,
  'precond': 'edm',
  'sigma_data': 0.5,
  'time': 'edm',
}
PUBLISHED = {
  'img_resolution': 32,
  'img_channels': 3,
  'label_dim': 10,
  'model_type': 'SongUNet',
  'embedding_type': 'positional',
  'encoder_type': 'standard',
  'decoder_type': 'standard',
  'channel_mult_noise': 1,
  'resample_filter': [1, 1],
  'model_channels': 128,
  'channel_mult': [2, 2, 2],
  'augment_dim': 9,
  'dropout': 0.13,
  'use_fp16': False,
}
NCSNPP = {
  'embedding_type': 'fourier',
  'encoder_type': 'residual',
  'channel_mult_noise': 2,
  'resample_filter': [1, 3, 3, 1],
}
PUBLISHED_ADM = {'img_resolution': 64, 'model_type': 'DhariwalUNet'}


@pytest.mark.parametrize(
  ('made', 'theirs', 'expected'),
  [
    ('EDMPrecond', {}, {}),
    (
      'EDMPrecond',
      NCSNPP,
      {
        'noise_mult': 2,
        'embedding_type': 'fourier',
        'fir': True,
        'progressive_input': 'residual',
      },
    ),
    ('EDMPrecond', {'augment_dim': 0}, {'augment_dim': 0}),
    ('EDMPrecond', {'sigma_data': 1.0}, {'sigma_data': 1.0}),
    ('EDMPrecond', {'decoder_type': 'skip'}, {'progressive': 'output_skip'}),
    (
      'EDMPrecond',
      {'encoder_type': 'skip'},
      {'progressive_input': 'input_skip'},
    ),
    ('EDMPrecond', {'channel_mult_emb': 2}, {'embedding_mult': 2}),
    ('EDMPrecond', {'attn_resolutions': [8]}, {'attention': (8,)}),
    ('EDMPrecond', {'num_blocks': 2}, {'res_blocks': 2}),
    ('VPPrecond', {}, {'precond': 'vp'}),
    ('VEPrecond', {}, {'precond': 've'}),
    ('VPPrecond', {'model_type': None}, None),
  ],
)
def test_the_options_that_must_be_others(made, theirs, expected):
  options = {n: v for n, v in (PUBLISHED | theirs).items() if v is not None}
  assert changes(Made(made, options), SONG) == (
    {'precond': 'vp'} if expected is None else expected
  )


@pytest.mark.parametrize(
  ('made', 'theirs', 'expected'),
  [
    ('EDMPrecond', {}, {}),
    ('iDDPMPrecond', {}, {'precond': 'iddpm'}),
    ('EDMPrecond', {'model_channels': 128}, {'nf': 128}),
  ],
)
def test_those_of_adm(made, theirs, expected):
  assert changes(Made(made, PUBLISHED_ADM | theirs), ADM) == expected
  without = {n: v for n, v in PUBLISHED_ADM.items() if n != 'model_type'}
  assert changes(Made(made, without | theirs), ADM) == expected


def test_without_arguments_only_the_preconditioning_is_compared():
  assert changes(Made('EDMPrecond', None), SONG) == {}
  assert changes(Made('VPPrecond', None), SONG) == {'precond': 'vp'}
  assert changes(Made('EDMPrecond', None), SONG | {'time': 'linear'}) == {
    'time': 'edm'
  }


@pytest.mark.parametrize(
  ('made', 'network', 'message'),
  [
    (Made('Precond', {}), SONG, 'a snapshot of Precond, and must be one of ED'),
    (
      Made('EDMPrecond', PUBLISHED_ADM),
      SONG,
      r"network\.name = 'edm_ncsnpp' must be the network of its model_type = "
      "'DhariwalUNet'; SongUNet is 'edm_ncsnpp', DhariwalUNet is 'edm_adm'",
    ),
    (Made('EDMPrecond', {'model_type': ['x']}), SONG, r"model_type = \['x'\]"),
    (
      Made('VPPrecond', PUBLISHED | {'beta_d': 20}),
      SONG,
      'beta_d = 20, which must be 19.9',
    ),
    (
      Made('VEPrecond', PUBLISHED | {'sigma_max': 50}),
      SONG,
      'sigma_max = 50, which must be 100',
    ),
    (
      Made('EDMPrecond', PUBLISHED | {'encoder_type': 'x'}),
      SONG,
      "its network has encoder_type = 'x'",
    ),
    (
      Made('EDMPrecond', PUBLISHED | {'resample_filter': [1, 2]}),
      SONG,
      r'must be \[1, 1\] or \[1, 3, 3, 1\]',
    ),
    (
      Made('EDMPrecond', PUBLISHED | {'sigma_data': 'x'}),
      SONG,
      "its network has sigma_data = 'x'",
    ),
  ],
)
def test_a_network_that_ours_cannot_be(made, network, message):
  with pytest.raises(ValueError, match=message):
    changes(made, network)
