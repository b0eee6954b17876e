"""The original names of FLUX.1's weights, as those of diffusers and back.

Where diffusers has a layer each for queries, keys and values, and in single
blocks for the hidden layer too, the original has one, whose outputs are theirs
in that order. The head's modulation is a shift and a scale in the original, and
a scale and a shift in diffusers.

Source of the names: https://github.com/black-forest-labs/flux, of Black Forest
Labs; of diffusers, https://github.com/huggingface/diffusers.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from flowdistill.convert.halves import swapped
from flowdistill.convert.rules import Arrays

Parts = tuple[str, ...]
HEAD = 'final_layer.adaLN_modulation.1'
HIDDEN = 'proj_mlp'  # of a single block, four times as wide as its others
LAYERS: Mapping[str, Parts] = {
  'img_in': ('x_embedder',),
  'txt_in': ('context_embedder',),
  'time_in.in_layer': ('time_text_embed.timestep_embedder.linear_1',),
  'time_in.out_layer': ('time_text_embed.timestep_embedder.linear_2',),
  'vector_in.in_layer': ('time_text_embed.text_embedder.linear_1',),
  'vector_in.out_layer': ('time_text_embed.text_embedder.linear_2',),
  'guidance_in.in_layer': ('time_text_embed.guidance_embedder.linear_1',),
  'guidance_in.out_layer': ('time_text_embed.guidance_embedder.linear_2',),
  HEAD: ('norm_out.linear',),
  'final_layer.linear': ('proj_out',),
}
BLOCKS: Mapping[str, tuple[str, Mapping[str, Parts]]] = {
  'double_blocks': (
    'transformer_blocks',
    {
      'img_mod.lin': ('norm1.linear',),
      'txt_mod.lin': ('norm1_context.linear',),
      'img_attn.qkv': ('attn.to_q', 'attn.to_k', 'attn.to_v'),
      'txt_attn.qkv': (
        *('attn.add_q_proj', 'attn.add_k_proj', 'attn.add_v_proj'),
      ),
      'img_attn.norm.query_norm': ('attn.norm_q',),
      'img_attn.norm.key_norm': ('attn.norm_k',),
      'txt_attn.norm.query_norm': ('attn.norm_added_q',),
      'txt_attn.norm.key_norm': ('attn.norm_added_k',),
      'img_attn.proj': ('attn.to_out.0',),
      'txt_attn.proj': ('attn.to_add_out',),
      'img_mlp.0': ('ff.net.0.proj',),
      'img_mlp.2': ('ff.net.2',),
      'txt_mlp.0': ('ff_context.net.0.proj',),
      'txt_mlp.2': ('ff_context.net.2',),
    },
  ),
  'single_blocks': (
    'single_transformer_blocks',
    {
      'modulation.lin': ('norm.linear',),
      'linear1': ('attn.to_q', 'attn.to_k', 'attn.to_v', HIDDEN),
      'norm.query_norm': ('attn.norm_q',),
      'norm.key_norm': ('attn.norm_k',),
      'linear2': ('proj_out',),
    },
  ),
}
"""The original layers of a block -> those of diffusers."""
IN_BLOCK = re.compile(rf'({"|".join(BLOCKS)})\.(\d+)\.(.+)')
FIRST = '|'.join(
  [*BLOCKS, *sorted({layer.partition('.')[0] for layer in LAYERS})]
)
"""What the original names begin with."""


def from_original(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Arrays by their original names -> by those of diffusers.

  Other names are left as they are.

  Raises:
    ValueError: if an array cannot be split into what diffusers has.
  """
  theirs = Arrays()
  for name, array in arrays.items():
    layer, _, leaf = name.rpartition('.')
    if not (parts := parts_of(layer)):
      theirs[name] = array
      continue
    leaf = 'weight' if leaf == 'scale' else leaf
    pieces = [swapped(array)] if layer == HEAD else cut(name, array, parts)
    theirs |= {
      f'{part}.{leaf}': one for part, one in zip(parts, pieces, strict=True)
    }
  return theirs


def to_original(theirs: Mapping[str, np.ndarray]) -> Arrays:
  """Arrays by the names of diffusers -> by their original names.

  Those that the original lacks, such as of a target time, keep their names.

  Raises:
    ValueError: if only some parts of an original array are there.
  """
  arrays, left = Arrays(), dict(theirs)
  for layer, parts in all_layers(theirs):
    for leaf in ('weight', 'bias'):
      pieces = [left.pop(f'{part}.{leaf}', None) for part in parts]
      if all(piece is None for piece in pieces):
        continue
      whole = [piece for piece in pieces if piece is not None]
      if len(whole) < len(parts):
        raise ValueError(
          f'{layer} of FLUX needs the {leaf} of all of {", ".join(parts)}'
        )
      array = np.concatenate(whole) if len(whole) > 1 else whole[0]
      end = 'scale' if layer.endswith('_norm') else leaf
      arrays[f'{layer}.{end}'] = swapped(array) if layer == HEAD else array
  return arrays | left


def parts_of(layer: str) -> Parts:
  """The layers of diffusers that an original layer has; () for another."""
  if match := IN_BLOCK.fullmatch(layer):
    theirs, inside = BLOCKS[match[1]]
    parts = inside.get(match[3], ())
    return tuple(f'{theirs}.{match[2]}.{part}' for part in parts)
  return LAYERS.get(layer, ())


def all_layers(theirs: Iterable[str]) -> Iterator[tuple[str, Parts]]:
  """Original layers, and their parts, of as many blocks as diffusers has."""
  yield from LAYERS.items()
  names = list(theirs)
  for original, (kind, inside) in BLOCKS.items():
    found = (re.match(rf'{kind}\.(\d+)\.', name) for name in names)
    for i in sorted({int(match[1]) for match in found if match}):
      for layer in inside:
        name = f'{original}.{i}.{layer}'
        yield name, parts_of(name)


def cut(name: str, array: np.ndarray, parts: Sequence[str]) -> list[np.ndarray]:
  """The rows of each part of an array.

  Raises:
    ValueError: if it has another number of rows.
  """
  if len(parts) == 1:
    return [array]
  sizes = [4 if part.endswith(HIDDEN) else 1 for part in parts]
  rows = array.shape[0] if array.ndim else 1
  if rows % sum(sizes):
    raise ValueError(
      f'{name} of FLUX has the shape {list(array.shape)}; the first number '
      f'must be a multiple of {sum(sizes)}'
    )
  ends = np.cumsum(sizes) * (rows // sum(sizes))
  return np.split(array, ends[:-1])
