"""Options of EDM2 in a snapshot, where its network says how it was made.

What no array shows, such as the channels of a head, would else go unseen.

Source of the names and defaults: https://github.com/NVlabs/edm2.
"""

from collections.abc import Mapping
from typing import Any

from flowdistill.convert.modules import Made

CLASS = 'Precond'
FILTERS = {(1, 1): False, (1, 3, 3, 1): True}
NAMES = {
  'model_channels': 'width',
  'num_blocks': 'res_blocks',
  'channel_mult': 'ch_mult',
  'channels_per_head': 'head_channels',
  'sigma_data': 'sigma_data',
}
"""Their option -> ours."""
DEFAULTS = {
  'img_resolution': 64,
  'model_channels': 192,
  'num_blocks': 3,
  'channel_mult': (1, 2, 3, 4),
  'attn_resolutions': (16, 8),
  'channels_per_head': 64,
  'resample_filter': (1, 1),
  'sigma_data': 0.5,
}
"""Of theirs, but for the resolution, which has none."""
FIXED = {
  'label_balance': 0.5,
  'concat_balance': 0.5,
  'res_balance': 0.3,
  'attn_balance': 0.3,
  'clip_act': 256,
}
"""Their options that are none of ours -> the value that our network has."""


def changes(made: Made, network: Mapping[str, Any]) -> dict[str, Any]:
  """The options of our network that must have another value, and the value.

  Args:
    made: how theirs was made.
    network: the options of ours.

  Raises:
    ValueError: if theirs is no EDM2, or has options that ours has not.
  """
  if made.name != CLASS:
    raise ValueError(
      f'it is a snapshot of {made.name}, and must be one of {CLASS}, the '
      'network of EDM2'
    )
  time = {} if network.get('time', 'edm') == 'edm' else {'time': 'edm'}
  if made.options is None:
    return time
  check_fixed(made.options, FIXED)
  theirs = checked(made.options, DEFAULTS)
  wanted = {ours: theirs[name] for name, ours in NAMES.items()}
  wanted['fir'] = FILTERS[theirs['resample_filter']]
  wanted['attention'] = heights_of(theirs)
  return time | differing(wanted, network)


def check_fixed(options: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
  """Raises ValueError if theirs has another value than ours always has."""
  for name, value in fixed.items():
    if (given := options.get(name, value)) != value:
      raise ValueError(
        f'its network has {name} = {given!r}, which must be {value}: it is no '
        'option of ours'
      )


def differing(
  wanted: Mapping[str, Any], network: Mapping[str, Any]
) -> dict[str, Any]:
  """Those of the wanted options that a network of ours does not have."""
  ours = {n: plain(network.get(n, value)) for n, value in wanted.items()}
  ours['attention'] = tuple(sorted(ours['attention'], reverse=True))
  return {n: value for n, value in wanted.items() if ours[n] != value}


def checked(
  options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """Their options, lists as tuples, with their defaults.

  Raises:
    ValueError: if one cannot be what it is.
  """
  theirs = {**defaults, **{name: plain(v) for name, v in options.items()}}
  for name, value in theirs.items():
    known, default = name in defaults, defaults.get(name)
    if known and not (_is_like(value, default)):
      raise ValueError(f'its network has {name} = {value!r}')
  if theirs.get('resample_filter', (1, 1)) not in FILTERS:
    raise ValueError(
      f'its network has resample_filter = {list(theirs["resample_filter"])}, '
      'which must be [1, 1] or [1, 3, 3, 1]'
    )
  return theirs


def _is_like(value: Any, default: Any) -> bool:
  """Whether it has the type of a default."""
  if isinstance(default, tuple):
    return isinstance(value, tuple) and all(type(x) is int for x in value)
  return type(value) is int or type(value) is type(default)


def heights_of(theirs: Mapping[str, Any]) -> tuple[int, ...]:
  """Those of the levels with attention; theirs ignores any other."""
  levels = range(len(theirs['channel_mult']))
  heights = [theirs['img_resolution'] >> i for i in levels]
  return tuple(h for h in heights if h in theirs['attn_resolutions'])


def plain(value: Any) -> Any:
  """A list as a tuple."""
  return tuple(value) if isinstance(value, list | tuple) else value
