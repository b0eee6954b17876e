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
from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import (
  Arrays,
  Rule,
  Shapes,
  check_once,
  needed,
  order,
  read,
  read_ema,
  shapes_of,
  write,
  write_ema,
)

NAMING = Naming('ADM', r'(?:map_|enc\.|dec\.|out_)', r'\.resample_filter$')
SIDE = re.compile(r'enc\.(\d+)x\d+_conv\.weight$')
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
  rules = sorted(rules, key=_position)
  check_once([rule.theirs for rule in rules])
  return rules


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Args:
    arrays: by their names in a file, with any known prefixes; other names, and
      filters, are ignored.
    shapes: path in our network -> shape.

  Returns:
    our arrays, except those that only ours has.

  Raises:
    ValueError: if the names do not contain the side of the images, or as
      `rules.read`.
  """
  return read(arrays, shapes, make_rules(shapes, side_of(arrays)), NAMING)


def ema_from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """The EMA weights of a checkpoint, as `rules.read_ema`."""
  return read_ema(arrays, shapes, make_rules(shapes, side_of(arrays)), NAMING)


def to_torch(
  arrays: Mapping[str, np.ndarray], side: int, prefix: str = ''
) -> Arrays:
  """Our arrays and their filters by PyTorch's names.

  Args:
    arrays: by the paths of our network.
    side: of its images, in pixels.
    prefix: of the names, such as 'module.'.
  """
  theirs = write(arrays, make_rules(shapes_of(arrays), side), prefix)
  resized = [n for n in theirs if re.search(r'_(up|down)\.conv0\.weight$', n)]
  blocks = [name.removesuffix('.conv0.weight') for name in resized]
  names = [f'{block}.{part}' for block in blocks for part in ('conv0', 'skip')]
  quarters = np.full((1, 1, 2, 2), 0.25, np.float32)
  return theirs | {f'{name}.resample_filter': quarters for name in names}


def ema_to_torch(
  arrays: Mapping[str, np.ndarray], side: int
) -> list[np.ndarray]:
  """Our arrays as the list `shadow_params`."""
  return write_ema(arrays, make_rules(shapes_of(arrays), side))


def wanted(names: Iterable[str], *, ema: bool) -> list[str]:
  """The names in a checkpoint that hold weights, or EMA weights too."""
  return needed(names, NAMING, ema=ema)


def side_of(names: Iterable[str]) -> int:
  """The side of the images, in pixels.

  Raises:
    ValueError: if no name contains it.
  """
  matches = [m for n in names if NAMING.bare(n) and (m := SIDE.search(n))]
  if not matches:
    raise ValueError(
      'these weights of ADM have no enc.<side>x<side>_conv.weight'
    )
  return int(matches[0][1])


def _rule(path: str, size: int, side: int, levels: int) -> Rule:
  """The rule of one array with `size` axes."""
  layer, _, leaf = path.rpartition('.')
  part = layer.rpartition('.')[2]
  name = OUTSIDE.get(layer) or _inside(layer, side, levels)
  return Rule(
    path,
    f'{name}.{"bias" if leaf == "bias" else "weight"}',
    axes={1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[size],
    # Theirs are convolutions of 1 x 1.
    ones=2 if part in ('qkv', 'out') and leaf == 'kernel' else 0,
    negative=layer == 'last.layers.2',
  )


def _inside(layer: str, side: int, levels: int) -> str:
  """'down.1.steps.0.block.skip' -> 'enc.32x32_block0.skip', if side is 64."""
  if layer == 'first':
    return f'enc.{side}x{side}_conv'
  match = BLOCK.fullmatch(layer)
  if not match or match[5] not in INSIDE:
    raise ValueError(f'{layer} is no layer of an ADM')
  way, number, step, what, part = match.groups()
  last = levels - 1
  level = {'down': int(number), 'middle': last, 'up': last - int(number)}[way]
  if what in ('shrink', 'grow'):
    level, name = (level + 1, 'down') if way == 'down' else (level - 1, 'up')
  else:
    name = f'in{number}' if way == 'middle' else f'block{step}'
  here, way = side >> level, 'enc' if way == 'down' else 'dec'
  return f'{way}.{here}x{here}_{name}.{INSIDE[part]}'


def _position(rule: Rule) -> tuple[tuple[int, ...], int, bool]:
  """The sort key for the order in which PyTorch lists the parameters."""
  layer, _, leaf = rule.ours.rpartition('.')
  parent, _, part = layer.rpartition('.')
  inside = part in INSIDE
  place = order(parent if inside else layer, ORDER, NAMING)
  return place, list(INSIDE).index(part) if inside else 0, leaf == 'bias'
