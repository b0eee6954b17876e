"""Weights of Stable Diffusion 3 and 3.5, both ways.

  transformer_blocks.3.attn.to_q.weight
  joint_blocks.3.x_block.attn.qkv.weight

are block 3 in the files of diffusers and in those of Stability AI. The latter
have queries, keys and values as one array, and shift before scale in the head
and in the last block's text, where diffusers has scale before shift. They are
renamed to those of diffusers when they are read, and back when they are
written. What only ours has is written under names of its own, and read where it
is there: the second embedding of a target time as time_text_embed_2.

Source of the names: https://github.com/huggingface/diffusers, 0.42,
`SD3Transformer2DModel` and its reader of single files;
https://github.com/Stability-AI/sd3.5.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.diffusers_layers import JOINT, OUTSIDE
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Rule, Shapes
from flowdistill.convert.sd3_original import from_original

ONLY_OURS = re.compile(r'times\.(?:of_s\.|sign$)|scalars\.|label\.')
NAMING = Naming(
  'SD3',
  r'(?:pos_embed|norm_out|proj_out|context_embedder|time_text_embed(?:_2)?|'
  r'transformer_blocks|[xty]_embedder|joint_blocks|final_layer)(?:\.|$)|'
  rf'{ONLY_OURS.pattern}',
)
LAYER = re.compile(r'blocks_(\d+)\.(\d+)\.(.+)')
POSITION = 'position'
LAYERS = {**OUTSIDE, 'first': 'pos_embed.proj'}
INSIDE = {
  **JOINT,
  'picture.second.project.query': 'attn2.to_q',
  'picture.second.project.key': 'attn2.to_k',
  'picture.second.project.value': 'attn2.to_v',
  'picture.second.project.query_scale': 'attn2.norm_q',
  'picture.second.project.key_scale': 'attn2.norm_k',
  'picture.second.out': 'attn2.to_out.0',
}
"""The layers of a block."""


def make_rules(shapes: Shapes) -> list[Rule]:
  """The rules of a network whose blocks are not stacked.

  Args:
    shapes: path in our network, such as 'blocks_0.3.text.up.kernel' -> shape.

  Raises:
    ValueError: if no SD3 has such a path.
  """
  numbers = _numbers(shapes)
  return [_rule(path, len(shape), numbers) for path, shape in shapes.items()]


def in_diffusers(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Arrays of a file by the names of diffusers, with their prefixes."""
  return from_original(arrays, NAMING)


def _numbers(paths: Iterable[str]) -> dict[tuple[int, int], int]:
  """(stack, layer in it) -> number of the block in the network."""
  matches = (LAYER.fullmatch(path) for path in paths)
  places = sorted({(int(m[1]), int(m[2])) for m in matches if m})
  return {place: i for i, place in enumerate(places)}


def _rule(path: str, size: int, numbers: Mapping[tuple[int, int], int]) -> Rule:
  """The rule of one array with `size` axes."""
  if path == POSITION:
    return Rule(path, 'pos_embed.pos_embed', (0, 1, 2), learnt=False)
  match = LAYER.fullmatch(path)
  names, inside = (INSIDE, match[3]) if match else (LAYERS, path)
  part, _, leaf = inside.rpartition('.')
  if leaf.endswith('_scale'):
    part, leaf = inside, 'weight'
  if part not in names and ONLY_OURS.match(path):
    own = re.sub(r'\.kernel$', '.weight', path)
    return Rule(path, own, _axes(path, size))
  if part not in names:
    raise ValueError(f'{path} is no array of an SD3')
  name = names[part]
  if match:
    number = numbers[int(match[1]), int(match[2])]
    name = f'transformer_blocks.{number}.{name}'
  their_leaf = 'bias' if leaf == 'bias' else 'weight'
  return Rule(path, f'{name}.{their_leaf}', _axes(path, size))


def _axes(path: str, size: int) -> tuple[int, ...]:
  """The transposition of theirs to ours."""
  if path.endswith('.embedding'):
    return tuple(range(size))
  return (2, 3, 1, 0) if size == 4 else tuple(reversed(range(size)))
