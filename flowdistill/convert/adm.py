"""ADM weights of SlimFlow under PyTorch's names, both ways.

A name says the side of the image where a block works, so that of

  enc.32x32_block0.conv0.weight    our down.1.steps.0.block.conv_in.kernel
  dec.16x16_in0.qkv.weight         our middle.0.attention.qkv.kernel

in a network for 64 x 64. Prefixes, checkpoints and averages: see `rules.py`.

Time. Theirs is 1 at data. The network turns it where it embeds it; here turns
the sign of the velocity, v_ours = −v, that of the last convolution. Embeddings
of s and scalars are ours alone, and filters of blocks that change the side
theirs: each is four quarters.

Source of the names: https://github.com/yuanzhi-zhu/SlimFlow, `DhariwalUNet`.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.rules import (
  Arrays,
  Kind,
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

KIND = Kind('ADM', r'(?:map_|enc\.|dec\.|out_)', r'\.resample_filter$')
SIDE = re.compile(r'enc\.(\d+)x\d+_conv\.weight$')
OURS_ALONE = re.compile(r'times\.of_s\.|scalars\.')
BLOCK = re.compile(
  r'(down|middle|up)\.(\d+)\.(?:steps\.(\d+)\.)?'
  r'(shrink|grow|block|attention)\.(\w+)'
)
ORDER = (
  *('times', 'label', 'first', 'second', 'down', 'middle', 'up', 'last'),
  *('steps', 'shrink', 'grow', 'block', 'attention', 'layers'),
)
"""What comes before what, where both have the same parent; then by number."""
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
"""The parts of a block and its attention, in their order."""
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
    shapes: what our network has, by its paths.
    side: of the images, in pixels: their names have it.

  Raises:
    ValueError: if there is a path that no ADM has.
  """
  paths = [path for path in shapes if not OURS_ALONE.match(path)]
  levels = {path.split('.')[1] for path in paths if path.startswith('down.')}
  rules = [_rule(p, len(shapes[p]), side, len(levels)) for p in paths]
  rules = sorted(rules, key=_position)
  check_once([rule.theirs for rule in rules])
  return rules


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Args:
    arrays: by the names of a state dict or of a checkpoint's `model`, with or
      without `module.`; other names, and filters, are ignored.
    shapes: what our network has, by its paths.

  Returns:
    all of our arrays but those that are ours alone.

  Raises:
    ValueError: if the names do not say the side of the images, or as
      `rules.read`.
  """
  return read(arrays, shapes, make_rules(shapes, side_of(arrays)), KIND)


def ema_from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """The averages of a checkpoint, as `rules.read_ema`."""
  return read_ema(arrays, shapes, make_rules(shapes, side_of(arrays)), KIND)


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
  """Our arrays as their `shadow_params`."""
  return write_ema(arrays, make_rules(shapes_of(arrays), side))


def wanted(names: Iterable[str], *, ema: bool) -> list[str]:
  """Of the names in a checkpoint those that weights or averages need."""
  return needed(names, KIND, ema=ema)


def side_of(names: Iterable[str]) -> int:
  """The side of the images, in pixels.

  Raises:
    ValueError: if the names do not say it.
  """
  found = [m for n in names if (m := SIDE.search(n))]
  if not found:
    raise ValueError(
      'these weights of ADM have no enc.<side>x<side>_conv.weight'
    )
  return int(found[0][1])


def _rule(path: str, size: int, side: int, levels: int) -> Rule:
  """The rule of one array with so many axes."""
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
  """In the order in which PyTorch lists its parameters."""
  layer, _, leaf = rule.ours.rpartition('.')
  parent, _, part = layer.rpartition('.')
  inside = part in INSIDE
  place = order(parent if inside else layer, ORDER, KIND)
  return place, list(INSIDE).index(part) if inside else 0, leaf == 'bias'
