"""Options of EDM's networks in a snapshot, as `edm2_options.py`.

Source of the names and defaults: https://github.com/NVlabs/edm.
"""

from collections.abc import Mapping
from typing import Any

from flowdistill.convert.edm2_options import (
  FILTERS,
  check_fixed,
  checked,
  differing,
  heights_of,
)
from flowdistill.convert.modules import Made

PRECONDS = {
  'EDMPrecond': 'edm',
  'VPPrecond': 'vp',
  'VEPrecond': 've',
  'iDDPMPrecond': 'iddpm',
}
"""Their class -> our `precond`."""
NETWORKS = {'SongUNet': 'edm_ncsnpp', 'DhariwalUNet': 'edm_adm'}
"""Their `model_type` -> our network."""
MODEL_TYPES = {'EDMPrecond': 'DhariwalUNet', 'iDDPMPrecond': 'DhariwalUNet'}
"""Their class -> its default, where that is not SongUNet."""
NAMES = {
  'model_channels': 'nf',
  'num_blocks': 'res_blocks',
  'channel_mult': 'ch_mult',
  'channel_mult_emb': 'embedding_mult',
  'augment_dim': 'augment_dim',
}
"""Their option -> ours."""
SONG_NAMES = {
  'channel_mult_noise': 'noise_mult',
  'embedding_type': 'embedding_type',
}
INPUTS = {'standard': 'none', 'skip': 'input_skip', 'residual': 'residual'}
OUTPUTS = {'standard': 'none', 'skip': 'output_skip'}
SHARED = {'img_resolution': 64, 'augment_dim': 0, 'channel_mult_emb': 4}
DEFAULTS = {
  'SongUNet': {
    **SHARED,
    'model_channels': 128,
    'channel_mult': (1, 2, 2, 2),
    'num_blocks': 4,
    'attn_resolutions': (16,),
    'embedding_type': 'positional',
    'channel_mult_noise': 1,
    'encoder_type': 'standard',
    'decoder_type': 'standard',
    'resample_filter': (1, 1),
  },
  'DhariwalUNet': {
    **SHARED,
    'model_channels': 192,
    'channel_mult': (1, 2, 3, 4),
    'num_blocks': 3,
    'attn_resolutions': (32, 16, 8),
  },
}
"""Of theirs, but for the resolution, which has none."""
FIXED = {
  'vp': {'beta_d': 19.9, 'beta_min': 0.1, 'M': 1000},
  've': {'sigma_min': 0.02, 'sigma_max': 100},
  'iddpm': {'C_1': 0.001, 'C_2': 0.008, 'M': 1000},
}
"""Their options that are none of ours -> the value that our network has."""


def changes(made: Made, network: Mapping[str, Any]) -> dict[str, Any]:
  """The options of our network that must have another value, and the value.

  Args:
    made: how theirs was made.
    network: the name and the options of ours.

  Raises:
    ValueError: if theirs is no network of EDM, is another one than ours, or has
      options that ours has not.
  """
  if made.name not in PRECONDS:
    raise ValueError(
      f'it is a snapshot of {made.name}, and must be one of '
      f'{", ".join(PRECONDS)}, the networks of EDM'
    )
  precond = PRECONDS[made.name]
  same = {'precond': precond, 'time': 'edm'}
  if made.options is None:
    return {n: v for n, v in same.items() if network.get(n, 'edm') != v}
  kind = made.options.get('model_type', MODEL_TYPES.get(made.name, 'SongUNet'))
  if NETWORKS.get(str(kind)) != network['name']:
    raise ValueError(
      f'network.name = {network["name"]!r} must be the network of its '
      f'model_type = {kind!r}; '
      + ', '.join(f'{t} is {ours!r}' for t, ours in NETWORKS.items())
    )
  check_fixed(made.options, FIXED.get(precond, {}))
  return differing(same | _wanted(made.options, kind, precond), network)


def _wanted(
  options: Mapping[str, Any], kind: str, precond: str
) -> dict[str, Any]:
  """The options that ours must have, of a network of this `model_type`."""
  sigma = {'sigma_data': 0.5} if precond == 'edm' else {}
  theirs = checked(options, DEFAULTS[kind] | sigma)
  wanted = {ours: theirs[name] for name, ours in NAMES.items()}
  wanted |= {name: theirs[name] for name in sigma}
  wanted['attention'] = heights_of(theirs)
  if kind == 'DhariwalUNet':
    return wanted
  wanted |= {ours: theirs[name] for name, ours in SONG_NAMES.items()}
  wanted['fir'] = FILTERS[theirs['resample_filter']]
  for name, ours, values in (
    ('encoder_type', 'progressive_input', INPUTS),
    ('decoder_type', 'progressive', OUTPUTS),
  ):
    if theirs[name] not in values:
      raise ValueError(f'its network has {name} = {theirs[name]!r}')
    wanted[ours] = values[theirs[name]]
  return wanted
