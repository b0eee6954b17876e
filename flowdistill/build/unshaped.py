"""Options with which a network is another function of the same arrays."""

from collections.abc import Mapping
from typing import Any

from flowdistill.config.bind import ConfigError
from flowdistill.training.json_files import jsonable

UNSHAPED = (
  *('heads', 'head_channels', 'theta'),
  *('num_attention_heads', 'attention_head_dim', 'axes_dims_rope'),
)


def check_unshaped(
  theirs: Mapping[str, Any], ours: Mapping[str, Any], key: str, *, source: str
) -> None:
  """Checks a network that starts from the weights of another one.

  The options are those that no shape tells. Networks of different widths have
  few arrays in common, and may differ.

  Args:
    theirs: options of the network with the weights.
    ours: options of the network that starts from them.
    key: of our network in the config.
    source: what has the weights, for a message.

  Raises:
    ConfigError: naming the first option that differs.
  """
  if any(_differ(theirs, ours, name) for name in ('name', 'width')):
    return
  for name in UNSHAPED:
    if _differ(theirs, ours, name):
      raise ConfigError(
        f'config.{key}.{name} = {ours[name]!r} must be {theirs[name]!r}, as in '
        f'{source}, which this network starts from'
      )


def _differ(
  theirs: Mapping[str, Any], ours: Mapping[str, Any], name: str
) -> bool:
  given, own = theirs.get(name), ours.get(name)
  return None not in (given, own) and jsonable(given) != jsonable(own)
