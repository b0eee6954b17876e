"""Weights of Stable Diffusion 3 and 3.5, both ways.

  transformer_blocks.3.attn.to_q.weight
  joint_blocks.3.x_block.attn.qkv.weight

are block 3 in the files of diffusers and in those of Stability AI. The latter
have queries, keys and values as one array, and shift before scale in the head
and in the last block's text, where diffusers has scale before shift. They are
renamed to those of diffusers when they are read, and back when they are
written. Only ours has embeddings of s, of scalars and of labels.

Source of the names: https://github.com/huggingface/diffusers, 0.42,
`SD3Transformer2DModel` and its reader of single files;
https://github.com/Stability-AI/sd3.5.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from flowdistill.convert.converter import Converter
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Rule, Shapes
from flowdistill.convert.sd3_original import from_original, to_original
from flowdistill.convert.stacked import (
  single_arrays,
  single_shapes,
  stacked,
)

NAMING = Naming(
  'SD3',
  r'(?:pos_embed|norm_out|proj_out|context_embedder|time_text_embed|'
  r'transformer_blocks|[xty]_embedder|joint_blocks|final_layer)(?:\.|$)',
)
DIFFUSERS, ORIGINAL = NAMES = 'diffusers', 'original'
ONLY_OURS = re.compile(r'times\.(?:of_s|sign)|scalars\.|label\.')
LAYER = re.compile(r'blocks_(\d+)\.(\d+)\.(.+)')
POSITION = 'position'
LAYERS = {
  'first': 'pos_embed.proj',
  'times.of_t.first': 'time_text_embed.timestep_embedder.linear_1',
  'times.of_t.second': 'time_text_embed.timestep_embedder.linear_2',
  'pooled.first': 'time_text_embed.text_embedder.linear_1',
  'pooled.second': 'time_text_embed.text_embedder.linear_2',
  'text': 'context_embedder',
  'modulation': 'norm_out.linear',
  'last': 'proj_out',
}
INSIDE = {
  'picture.modulation': 'norm1.linear',
  'picture.project.query': 'attn.to_q',
  'picture.project.key': 'attn.to_k',
  'picture.project.value': 'attn.to_v',
  'picture.project.query_scale': 'attn.norm_q',
  'picture.project.key_scale': 'attn.norm_k',
  'picture.out': 'attn.to_out.0',
  'picture.second.project.query': 'attn2.to_q',
  'picture.second.project.key': 'attn2.to_k',
  'picture.second.project.value': 'attn2.to_v',
  'picture.second.project.query_scale': 'attn2.norm_q',
  'picture.second.project.key_scale': 'attn2.norm_k',
  'picture.second.out': 'attn2.to_out.0',
  'picture.up': 'ff.net.0.proj',
  'picture.down': 'ff.net.2',
  'text.modulation': 'norm1_context.linear',
  'text.project.query': 'attn.add_q_proj',
  'text.project.key': 'attn.add_k_proj',
  'text.project.value': 'attn.add_v_proj',
  'text.project.query_scale': 'attn.norm_added_q',
  'text.project.key_scale': 'attn.norm_added_k',
  'text.out': 'attn.to_add_out',
  'text.up': 'ff_context.net.0.proj',
  'text.down': 'ff_context.net.2',
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


@dataclasses.dataclass(frozen=True)
class SD3Converter(Converter):
  """Also reads the names of Stability AI; our blocks are stacked."""

  def from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """The arrays of a file, as `Converter.from_torch`."""
    return self._read(super().from_torch, arrays, shapes)

  def ema_from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """The EMA weights of a checkpoint, as `Converter.ema_from_torch`."""
    return self._read(super().ema_from_torch, arrays, shapes)

  def to_torch(
    self,
    arrays: Mapping[str, np.ndarray],
    side: int,
    prefix: str = '',
    network: Mapping[str, Any] = MappingProxyType({}),
    names: str = DIFFUSERS,
  ) -> Arrays:
    """Our arrays by the names of diffusers, or with ORIGINAL of Stability AI.

    Raises:
      ValueError: if `names` is not in NAMES.
    """
    if names not in NAMES:
      raise ValueError(f'names = {names!r} must be one of {NAMES}')
    ours = {p: x for p, x in arrays.items() if not ONLY_OURS.match(p)}
    theirs = super().to_torch(single_arrays(ours), side, '', network)
    theirs = to_original(theirs) if names == ORIGINAL else theirs
    return {f'{prefix}{name}': x for name, x in theirs.items()}

  def constants(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> frozenset[str]:
    """The paths of our arrays that are not trained."""
    return frozenset({POSITION} & shapes.keys())

  def _read(
    self, reader: Any, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """Our arrays, of which `reader` reads those of single layers."""
    ours = {p: shape for p, shape in shapes.items() if not ONLY_OURS.match(p)}
    names = {p.partition('.')[0] for p in ours if '.each.' in p}
    theirs = from_original(arrays, NAMING)
    return stacked(reader(theirs, single_shapes(ours)), names)


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
  if part not in names:
    raise ValueError(f'{path} is no array of an SD3')
  name = names[part]
  if match:
    number = numbers[int(match[1]), int(match[2])]
    name = f'transformer_blocks.{number}.{name}'
  axes = (2, 3, 1, 0) if size == 4 else tuple(reversed(range(size)))
  return Rule(path, f'{name}.{"bias" if leaf == "bias" else "weight"}', axes)
