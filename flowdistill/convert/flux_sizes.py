"""The options of a FLUX.1, by the shapes of its tensors."""

import re
from typing import Any

from flowdistill.convert.flux import GUIDANCE, STACKS
from flowdistill.convert.rules import Shapes, needed_shape

HEAD, AXES = 128, (16, 56, 56)
"""Channels of a head, and those for its position on each axis."""
BLOCK = re.compile(rf'({"|".join(STACKS.values())})\.(\d+)\.')


def sizes_of(shapes: Shapes) -> dict[str, Any]:
  """Options with the names of diffusers' config.json.

  Args:
    shapes: name in diffusers -> shape.

  Raises:
    ValueError: if a layer is missing that they are taken from, or heads are
      not those of FLUX.1.
  """
  width, channels = needed_shape(shapes, 'x_embedder.weight', 2)
  if width % HEAD:
    raise ValueError(
      f'{width} channels are not heads of {HEAD}, as those of FLUX.1: only the '
      'config.json of a folder says what they are'
    )
  found = {match.groups() for name in shapes if (match := BLOCK.match(name))}
  depths = [sum(kind == name for kind, _ in found) for name in STACKS.values()]
  text = needed_shape(shapes, 'context_embedder.weight', 2)
  pooled = needed_shape(
    shapes, 'time_text_embed.text_embedder.linear_1.weight', 2
  )
  return {
    'in_channels': channels,
    'out_channels': needed_shape(shapes, 'proj_out.weight', 2)[0],
    'num_layers': depths[0],
    'num_single_layers': depths[1],
    'attention_head_dim': HEAD,
    'num_attention_heads': width // HEAD,
    'axes_dims_rope': AXES,
    'joint_attention_dim': text[1],
    'pooled_projection_dim': pooled[1],
    'guidance_embeds': any(name.startswith(GUIDANCE) for name in shapes),
  }
