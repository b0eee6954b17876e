"""Classes of transformers in folders of diffusers: its own, and ours.

A network of two times that cannot be called at one is of a class of ours, whose
module is written beside the weights (see `flow_maps/`).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

PLAIN = {'flux': 'FluxTransformer2DModel', 'sd3': 'SD3Transformer2DModel'}
"""Name of our network -> class of diffusers."""
FLOW_MAPS = {
  'flux': 'FlowMapFluxTransformer2DModel',
  'sd3': 'FlowMapSD3Transformer2DModel',
}
"""Name of our network -> our class of two times."""
CLASSES = {
  kind: name for row in (PLAIN, FLOW_MAPS) for name, kind in row.items()
}
"""Class -> name of our network."""
MODULE = pathlib.Path(__file__).parent / 'flow_maps' / 'flow_map_transformer.py'
MIDPOINT = 'midpoint'
GUIDANCE = ('guidance',)
TAKES = 'takes_guidance'
Options = Mapping[str, Any]


def is_flow_map(network: Options, *, called: bool = False) -> bool:
  """Whether a network is written as a class of ours.

  Args:
    network: its options.
    called: by a pipeline, which tells it both times.
  """
  form = network['target_time']
  if form is None:
    return False
  return called or form != MIDPOINT or bool(network['scalars'])


def two_times(network: Options) -> dict[str, Any]:
  """What the config.json of our class has beside that of diffusers.

  Raises:
    ValueError: if the network takes scalars other than a guidance scale.
  """
  scalars = tuple(network['scalars'])
  if scalars not in ((), GUIDANCE):
    raise ValueError(
      f'network.scalars = {scalars} must be empty or {GUIDANCE} for diffusers'
    )
  kept = {k: network[k] for k in ('target_time', 'gate', 'max_frequency')}
  return {**kept, TAKES: bool(scalars)}


def options_of(config: Options) -> dict[str, Any]:
  """The options of our network in a config.json."""
  options = {k: v for k, v in config.items() if not k.startswith('_')}
  if options.pop(TAKES, False):
    options['scalars'] = GUIDANCE
  return options
