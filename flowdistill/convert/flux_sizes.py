"""The options of a FLUX.1, by the shapes of its tensors."""

import re
from typing import Any

from flowdistill.convert.flux import GUIDANCE, STACKS
from flowdistill.convert.rules import Shapes, needed_shape

QUERY_NORM = re.compile(rf'(?:{"|".join(STACKS.values())})\.0\.attn\.norm_q\.w')


def sizes_of(shapes: Shapes) -> dict[str, Any]:
  """Options with the names of diffusers' config.json.

  Args:
    shapes: name in diffusers -> shape.

  Raises:
    ValueError: if a layer is missing that they are taken from.
  """
  width, channels = needed_shape(shapes, 'x_embedder.weight', 2)
  heads = [shape[0] for name, shape in shapes.items() if QUERY_NORM.match(name)]
  if not heads or width % heads[0]:
    raise ValueError('there is no attn.norm_q, whose size is that of a head')
  depths = {
    kind: len({n.split('.')[1] for n in shapes if n.startswith(f'{theirs}.')})
    for kind, theirs in STACKS.items()
  }
  text = needed_shape(shapes, 'context_embedder.weight', 2)
  pooled = needed_shape(
    shapes, 'time_text_embed.text_embedder.linear_1.weight', 2
  )
  return {
    'in_channels': channels,
    'out_channels': needed_shape(shapes, 'proj_out.weight', 2)[0],
    'num_layers': depths['double'],
    'num_single_layers': depths['single'],
    'attention_head_dim': heads[0],
    'num_attention_heads': width // heads[0],
    'joint_attention_dim': text[1],
    'pooled_projection_dim': pooled[1],
    'guidance_embeds': any(name.startswith(GUIDANCE) for name in shapes),
  }
