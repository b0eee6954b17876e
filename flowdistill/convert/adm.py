"""ADM weights of SlimFlow under PyTorch's names, both ways.

Their names contain the resolution at which a block works: in a network for
images of 64 x 64,

  enc.32x32_block0.conv0.weight    is our down.1.steps.0.block.conv_in.kernel
  dec.16x16_in0.qkv.weight         is our middle.0.attention.qkv.kernel

Prefixes, checkpoints and EMA weights: see `prefixes.py` and `rules.py`.

Time. Theirs is 1 at data. Our network mirrors it in the embedding, and the
rules negate the velocity, v_ours = −v, that is the last convolution. Only ours
has embeddings of s and scalars; only theirs has filters in blocks that down- or
upsample, all of them a mean of 2 x 2.

Source of the names: https://github.com/yuanzhi-zhu/SlimFlow, `DhariwalUNet`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.convert.names import check_once
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import (
  Arrays,
  Rule,
  Shapes,
  order,
)

NAMING = Naming('ADM', r'(?:map_|enc\.|dec\.|out_)', r'\.resample_filter$')
SIDE = 'enc.<side>x<side>_conv.weight'
ONLY_OURS = re.compile(r'times\.of_s\.|scalars\.')
BLOCK = re.compile(
  r'(down|middle|up)\.(\d+)\.(?:steps\.(\d+)\.)?'
  r'(shrink|grow|block|attention)\.(\w+)'
)
ORDER = (
  *('times', 'label', 'first', 'second', 'down', 'middle', 'up', 'last'),
  *('steps', 'shrink', 'grow', 'block', 'attention', 'layers'),
)
"""The order of the children of one parent; equal names go by number."""
INSIDE = {
  'norm_in': 'norm0',
  'conv_in': 'conv0',
  'shift': 'affine',
  'norm_out': 'norm1',
  'conv_out': 'conv1',
  'skip': 'skip',
  'norm': 'norm2',
  'qkv': 'qkv',
  'out': 'proj',
}
"""The parts of a block and its attention, in order."""
AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
"""Number of axes -> the transposition of theirs to ours."""
OUTSIDE = {
  'times.first': 'map_layer0',
  'times.second': 'map_layer1',
  'label': 'map_label',
  'last.layers.0': 'out_norm',
  'last.layers.2': 'out_conv',
}


def make_rules(shapes: Shapes, side: int) -> list[Rule]:
  """The rules of a network, in the order of their parameters.

  Args:
    shapes: path in our network -> shape.
    side: of the images, in pixels, which is part of their names.

  Raises:
    ValueError: if no ADM has such a path.
  """
  paths = [path for path in shapes if not ONLY_OURS.match(path)]
  levels = {path.split('.')[1] for path in paths if path.startswith('down.')}
  rules = [_rule(p, len(shapes[p]), side, len(levels)) for p in paths]
  rules = sorted(rules, key=lambda rule: position(rule, ORDER, NAMING))
  check_once([rule.theirs for rule in rules])
  return rules


def filters(names: Iterable[str], network: Mapping[str, Any]) -> Arrays:
  """The filters that only theirs has, all of them a mean of 2 x 2."""
  del network
  return resample_filters(names, (1, 1))


def resample_filters(names: Iterable[str], taps: Sequence[int]) -> Arrays:
  """The filters of the blocks that down- or upsample, by their names."""
  resized = [n for n in names if re.search(r'_(up|down)\.conv0\.weight$', n)]
  blocks = [name.removesuffix('.conv0.weight') for name in resized]
  layers = [f'{block}.{part}' for block in blocks for part in ('conv0', 'skip')]
  return {f'{name}.resample_filter': resample_filter(taps) for name in layers}


def resample_filter(taps: Sequence[int]) -> np.ndarray:
  """Taps along both axes, of sum 1, float32 [1, 1, n, n]."""
  weights = np.asarray(taps, np.float32) / sum(taps)
  return np.outer(weights, weights)[None, None]


def _rule(path: str, size: int, side: int, levels: int) -> Rule:
  """The rule of one array with `size` axes."""
  layer, _, leaf = path.rpartition('.')
  name = OUTSIDE.get(layer) or inside(layer, side, levels, NAMING)
  return Rule(
    path,
    f'{name}.{"bias" if leaf == "bias" else "weight"}',
    axes=AXES[size],
    ones=ones(path),
    negative=layer == 'last.layers.2',
  )


def ones(path: str) -> int:
  """How many axes of 1 only theirs has: a convolution of 1 x 1."""
  return 2 if path.endswith(('.qkv.kernel', '.attention.out.kernel')) else 0


def inside(layer: str, side: int, levels: int, naming: Naming) -> str:
  """'down.1.steps.0.block.skip' -> 'enc.32x32_block0.skip', if side is 64.

  Raises:
    ValueError: if the network has no such layer.
  """
  if layer == 'first':
    return f'enc.{side}x{side}_conv'
  match = BLOCK.fullmatch(layer)
  if not match or match[5] not in INSIDE:
    raise ValueError(f'{layer} is no layer of an {naming.name}')
  way, number, step, what, part = match.groups()
  last = levels - 1
  level = {'down': int(number), 'middle': last, 'up': last - int(number)}[way]
  if what in ('shrink', 'grow'):
    level, name = (level + 1, 'down') if way == 'down' else (level - 1, 'up')
  else:
    name = f'in{number}' if way == 'middle' else f'block{step}'
  here, way = side >> level, 'enc' if way == 'down' else 'dec'
  return f'{way}.{here}x{here}_{name}.{INSIDE[part]}'


def position(
  rule: Rule, words: Sequence[str], naming: Naming
) -> tuple[tuple[int, ...], int, bool]:
  """The sort key for the order in which PyTorch lists the parameters.

  Args:
    rule: of one of them.
    words: the children of one parent, in order.
    naming: of the architecture.

  Raises:
    ValueError: if the network has no such layer.
  """
  layer, _, leaf = rule.ours.rpartition('.')
  parent, _, part = layer.rpartition('.')
  within = part in INSIDE
  place = order(parent if within else layer, words, naming)
  return place, list(INSIDE).index(part) if within else 0, leaf == 'bias'
