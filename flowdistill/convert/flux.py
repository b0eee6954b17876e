"""Weights of FLUX.1 under the names of diffusers and of the original.

  transformer_blocks.3.attn.to_q.weight
  double_blocks.3.img_attn.qkv.weight, with keys and values

are layer 3 of our double.each.picture.project.query.kernel; original names are
turned into those of diffusers first (see `flux_original.py`). What only ours
has is written under names of its own, and read where it is there: the second
embedding of a target time as time_text_embed_2.

Source of the names: https://github.com/huggingface/diffusers.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

from flowdistill.convert.diffusers_layers import JOINT, OUTSIDE
from flowdistill.convert.flux_original import FIRST, from_original
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Rule, Shapes

ONLY_OURS = re.compile(r'times\.(?:of_s\.|sign$)|label\.|scalars\.')
NAMING = Naming(
  'FLUX',
  rf'(?:time_text_embed(?:_2)?|context_embedder|x_embedder|norm_out|proj_out'
  rf'|(?:single_)?transformer_blocks|{FIRST})\.|{ONLY_OURS.pattern}',
)
GUIDANCE = 'time_text_embed.guidance_embedder.'
STACKS = {'double': 'transformer_blocks', 'single': 'single_transformer_blocks'}
LAYER = re.compile(rf'({"|".join(STACKS)})\.(\d+)\.(.+)')
LAYERS = {
  **OUTSIDE,
  'distilled.first': f'{GUIDANCE}linear_1',
  'distilled.second': f'{GUIDANCE}linear_2',
  'first': 'x_embedder',
}
SINGLE = {
  'modulation': 'norm.linear',
  'project.query': 'attn.to_q',
  'project.key': 'attn.to_k',
  'project.value': 'attn.to_v',
  'project.query_scale': 'attn.norm_q',
  'project.key_scale': 'attn.norm_k',
  'up': 'proj_mlp',
  'out': 'proj_out',
}
INSIDE = {'double': JOINT, 'single': SINGLE}
"""The layers of a block."""
LEAVES = {'kernel': 'weight', 'bias': 'bias'}


def make_rules(shapes: Shapes) -> list[Rule]:
  """The rules of a network whose blocks are not stacked.

  Args:
    shapes: path in our network, such as 'double.3.text.up.kernel' -> shape.

  Raises:
    ValueError: if no FLUX has such a path.
  """
  return [
    Rule(path, name_of(path), tuple(reversed(range(len(shape)))))
    for path, shape in shapes.items()
  ]


def name_of(path: str) -> str:
  """Path of an array of ours, in a single layer -> its name in diffusers."""
  layer, _, leaf = path.rpartition('.')
  if leaf in LEAVES and (name := layer_name(layer)):
    return f'{name}.{LEAVES[leaf]}'
  if name := layer_name(path):  # a scale, which is an array itself
    return f'{name}.weight'
  if ONLY_OURS.match(path):
    return re.sub(r'\.kernel$', '.weight', path)
  raise ValueError(f'{path} is no array of a FLUX')


def layer_name(layer: str) -> str | None:
  """A layer of ours -> its name in diffusers, None if it has none."""
  if not (match := LAYER.fullmatch(layer)):
    return LAYERS.get(layer)
  kind, number, inside = match.groups()
  name = INSIDE[kind].get(inside)
  return name and f'{STACKS[kind]}.{number}.{name}'


def in_diffusers(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Arrays by the names of diffusers, with their prefixes.

  Raises:
    ValueError: if one is there by two names.
  """
  theirs = Arrays()
  for name, array in arrays.items():
    if (part := NAMING.split(name)) is None:
      continue
    new = from_original({part.bare: array})
    for bare, one in new.items():
      if f'{part.prefix}{bare}' in theirs:
        raise ValueError(
          f'{bare} appears twice, once as {name}: save one of them alone'
        )
      theirs[f'{part.prefix}{bare}'] = one
  return theirs


def check_guidance(theirs: Collection[str], shapes: Shapes) -> None:
  """Refuses weights of a network with another `guidance_embeds`.

  Raises:
    ValueError: naming the option.
  """
  embeds = any(name.startswith(GUIDANCE) for name in theirs)
  if embeds != any(path.startswith('distilled.') for path in shapes):
    raise ValueError(
      f'network.guidance_embeds = {not embeds} must be {embeds}: these weights '
      f'{"embed" if embeds else "do not embed"} a guidance scale, as those of '
      f'FLUX.1-{"dev" if embeds else "schnell"}'
    )
