"""The options of a Stable Diffusion 3, by the shapes of its tensors."""

import math
import re
from typing import Any

from flowdistill.convert.rules import Shapes, needed_shape

HEAD = 64  # channels of a head, in all published ones
BLOCK = re.compile(r'transformer_blocks\.(\d+)\.')
DUAL = re.compile(r'transformer_blocks\.(\d+)\.attn2\.to_q\.weight')
NORM = 'transformer_blocks.0.attn.norm_q.weight'


def sizes_of(shapes: Shapes) -> dict[str, Any]:
  """Options with the names of diffusers' config.json.

  Args:
    shapes: name in diffusers -> shape.

  Raises:
    ValueError: if a layer is missing that they are taken from.
  """
  width, channels, patch, _ = needed_shape(shapes, 'pos_embed.proj.weight', 4)
  table = needed_shape(shapes, 'pos_embed.pos_embed', 3)
  head = needed_shape(shapes, NORM, 1)[0] if NORM in shapes else HEAD
  if width % head:
    raise ValueError(f'{width} channels are not heads of {head}')
  blocks = {m[1] for name in shapes if (m := BLOCK.match(name))}
  text = needed_shape(shapes, 'context_embedder.weight', 2)
  pooled = needed_shape(
    shapes, 'time_text_embed.text_embedder.linear_1.weight', 2
  )
  answer = needed_shape(shapes, 'proj_out.weight', 2)[0]
  dual = (int(m[1]) for name in shapes if (m := DUAL.fullmatch(name)))
  return {
    'patch_size': patch,
    'in_channels': channels,
    'out_channels': answer // patch**2,
    'num_layers': len(blocks),
    'attention_head_dim': head,
    'num_attention_heads': width // head,
    'joint_attention_dim': text[1],
    'caption_projection_dim': width,
    'pooled_projection_dim': pooled[1],
    'pos_embed_max_size': math.isqrt(table[1]),
    'dual_attention_layers': tuple(sorted(dual)),
    'qk_norm': 'rms_norm' if NORM in shapes else None,
  }
