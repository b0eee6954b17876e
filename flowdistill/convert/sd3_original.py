"""The names of Stability AI's files of SD3, in those of diffusers and back.

Source of the names: https://github.com/Stability-AI/sd3.5, and the reader of
single files of https://github.com/huggingface/diffusers, 0.42.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.halves import swapped
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays

OUTSIDE = {
  'pos_embed': 'pos_embed.pos_embed',
  'x_embedder.proj': 'pos_embed.proj',
  't_embedder.mlp.0': 'time_text_embed.timestep_embedder.linear_1',
  't_embedder.mlp.2': 'time_text_embed.timestep_embedder.linear_2',
  'y_embedder.mlp.0': 'time_text_embed.text_embedder.linear_1',
  'y_embedder.mlp.2': 'time_text_embed.text_embedder.linear_2',
  'context_embedder': 'context_embedder',
  'final_layer.linear': 'proj_out',
  'final_layer.adaLN_modulation.1': 'norm_out.linear',
}
"""Their layer -> that of diffusers."""
INSIDE = {
  'x_block.adaLN_modulation.1': 'norm1.linear',
  'x_block.attn.ln_q': 'attn.norm_q',
  'x_block.attn.ln_k': 'attn.norm_k',
  'x_block.attn.proj': 'attn.to_out.0',
  'x_block.attn2.ln_q': 'attn2.norm_q',
  'x_block.attn2.ln_k': 'attn2.norm_k',
  'x_block.attn2.proj': 'attn2.to_out.0',
  'x_block.mlp.fc1': 'ff.net.0.proj',
  'x_block.mlp.fc2': 'ff.net.2',
  'context_block.adaLN_modulation.1': 'norm1_context.linear',
  'context_block.attn.ln_q': 'attn.norm_added_q',
  'context_block.attn.ln_k': 'attn.norm_added_k',
  'context_block.attn.proj': 'attn.to_add_out',
  'context_block.mlp.fc1': 'ff_context.net.0.proj',
  'context_block.mlp.fc2': 'ff_context.net.2',
}
"""The layers of a block."""
FUSED = {
  'x_block.attn.qkv': ('attn.to_q', 'attn.to_k', 'attn.to_v'),
  'x_block.attn2.qkv': ('attn2.to_q', 'attn2.to_k', 'attn2.to_v'),
  'context_block.attn.qkv': (
    *('attn.add_q_proj', 'attn.add_k_proj', 'attn.add_v_proj'),
  ),
}
"""Their layer of queries, keys and values -> those of diffusers."""
TO_OUTSIDE = {there: here for here, there in OUTSIDE.items()}
TO_INSIDE = {there: (here, 0) for here, there in INSIDE.items()} | {
  there: (here, i)
  for here, parts in FUSED.items()
  for i, there in enumerate(parts)
}
"""The layer of diffusers -> theirs, and which part of it."""
OURS = re.compile(r'joint_blocks\.(\d+)\.(.+)')
THEIRS = re.compile(r'transformer_blocks\.(\d+)\.(.+)')
HEAD, LAST = 'norm_out.linear', 'norm1_context.linear'


def from_original(arrays: Mapping[str, np.ndarray], naming: Naming) -> Arrays:
  """Arrays by the names of diffusers, with their prefixes.

  Args:
    arrays: by the names of a file; those of diffusers stay as they are.
    naming: of the architecture.

  Raises:
    ValueError: if an array is there by both names.
  """
  parts = {name: part for name in arrays if (part := naming.split(name))}
  last = _last(OURS, (part.bare for part in parts.values()))
  found = Arrays()
  for name, array in arrays.items():
    part = parts.get(name)
    each = _renamed(part.bare, array, last) if part else {name: array}
    for new, piece in each.items():
      new = f'{part.prefix}{new}' if part else new
      if new in found or (new != name and new in arrays):
        raise ValueError(f'{name} and {new} are one array: save one of them')
      found[new] = piece
  return found


def to_original(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """The inverse of `from_original`, of names without prefixes."""
  last = _last(THEIRS, arrays)
  found: dict[str, dict[int, np.ndarray]] = {}
  for name, array in arrays.items():
    new, place, swap = _original(name, last)
    found.setdefault(new, {})[place] = swapped(array) if swap else array
  return {
    name: np.concatenate([parts[i] for i in sorted(parts)])
    if len(parts) > 1
    else parts[0]
    for name, parts in found.items()
  }


def _original(name: str, last: int) -> tuple[str, int, bool]:
  """A name of diffusers: the original, which part of it, whether swapped."""
  match, (layer, leaf) = THEIRS.fullmatch(name), _cut(name)
  if match is None:  # a layer without another name is ours alone
    new, swap, place = TO_OUTSIDE.get(layer, layer), layer == HEAD, 0
  else:
    layer, leaf = _cut(match[2])
    inside, place = TO_INSIDE[layer]
    new = f'joint_blocks.{match[1]}.{inside}'
    swap = layer == LAST and int(match[1]) == last
  return f'{new}.{leaf}' if leaf else new, place, swap


def _renamed(name: str, array: np.ndarray, last: int) -> Arrays:
  """An array of a file by the names of diffusers, or its three parts."""
  match, (layer, leaf) = OURS.fullmatch(name), _cut(name)
  if match is None:
    if layer not in OUTSIDE:
      return {name: array}
    new = OUTSIDE[layer]
    array = swapped(array) if new == HEAD else array
    return {f'{new}.{leaf}' if leaf else new: array}
  layer, leaf = _cut(match[2])
  block = f'transformer_blocks.{match[1]}'
  if layer in FUSED:
    if not array.ndim or len(array) % 3:
      raise ValueError(
        f'{name} has the shape {list(array.shape)}, which are not queries, '
        'keys and values'
      )
    parts = zip(FUSED[layer], np.split(array, 3), strict=True)
    return {f'{block}.{new}.{leaf}': part for new, part in parts}
  if layer not in INSIDE:
    return {name: array}
  new = INSIDE[layer]
  if new == LAST and int(match[1]) == last:
    array = swapped(array)
  return {f'{block}.{new}.{leaf}': array}


def _cut(name: str) -> tuple[str, str]:
  """'proj_out.weight' -> 'proj_out', 'weight'; the table has no leaf."""
  layer, _, leaf = name.rpartition('.')
  return (layer, leaf) if leaf in ('weight', 'bias') else (name, '')


def _last(pattern: re.Pattern[str], names: Iterable[str]) -> int:
  """The number of the last block; -1 without any."""
  matches = (pattern.fullmatch(name) for name in names)
  return max((int(m[1]) for m in matches if m), default=-1)
