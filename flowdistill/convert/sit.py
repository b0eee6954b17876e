"""Weights of SiT and MeanFlow under the names of PyTorch and Flax, both ways.

In PyTorch (SiT, REPA, and ports of MeanFlow) and in Flax (MeanFlow)

  blocks.3.attn.qkv.weight
  net.blocks.layers_3.attn.qkv._flax_linear.kernel

are layer 3 of our blocks.each.qkv.kernel. Flax's arrays are renamed to
PyTorch's when they are read, and back when they are written; their embedding of
t − s is h_embedder, and r_embedder in some ports. The velocity follows from the
network's `time`: no sign changes. Files of Flax have no positions. Only ours
has embeddings of s and scalars.

Source of the names: https://github.com/willisma/SiT,
https://github.com/Gsunshine/meanflow, https://github.com/zhuyu-cs/MeanFlow.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from flowdistill.convert.converter import Converter
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import (
  Arrays,
  Rule,
  Shapes,
  read,
  read_ema,
)
from flowdistill.convert.stacked import single_arrays, single_shapes, stacked

NAMING = Naming(
  'SiT', r'(?:pos_embed$|[xthry]_embedder\.|blocks\.|final_layer\.)'
)
ONLY_OURS = re.compile(r'times\.of_s\.|scalars\.')
STACKS = ('blocks',)
LAYER = re.compile(r'blocks\.(\d+)\.(.+)')
GAP = 'h_embedder.'
POSITIONS = 'pos_embed'
LAST = 'final_layer.linear.weight'
LAYERS = {
  'times.of_t.first': 't_embedder.mlp.0',
  'times.of_t.second': 't_embedder.mlp.2',
  'times.of_gap.first': 'h_embedder.mlp.0',
  'times.of_gap.second': 'h_embedder.mlp.2',
  'label': 'y_embedder.embedding_table',
  'first': 'x_embedder.proj',
  'modulation': 'final_layer.adaLN_modulation.1',
  'last': 'final_layer.linear',
}
INSIDE = {
  'modulation': 'adaLN_modulation.1',
  'qkv': 'attn.qkv',
  'out': 'attn.proj',
  'up': 'mlp.fc1',
  'down': 'mlp.fc2',
}
"""The layers of a block."""
FROM_FLAX = (
  (r'\.layers_(\d+)', r'.\1'),
  (r'\._flax_linear\.kernel$', '.weight'),
  (r'\._flax_embedding\.embedding$', '.weight'),
  (r'\._flax_linear\.bias$', '.bias'),
  (r'proj\.kernel$', 'proj.weight'),
)
TO_FLAX = (
  (r'(embedding_table)\.weight$', r'\1._flax_embedding.embedding'),
  (r'(x_embedder\.proj)\.weight$', r'\1.kernel'),
  (r'(?<!x_embedder\.proj)\.bias$', '._flax_linear.bias'),
  (r'\.weight$', '._flax_linear.kernel'),
  (r'\.(\d+)(?=\.)', r'.layers_\1'),
)


def make_rules(shapes: Shapes) -> list[Rule]:
  """The rules of a network whose blocks are not stacked.

  Args:
    shapes: path in our network, such as 'blocks.3.qkv.kernel' -> shape.

  Raises:
    ValueError: if no SiT has such a path.
  """
  return [_rule(path, len(shape)) for path, shape in shapes.items()]


@dataclasses.dataclass(frozen=True)
class SiTConverter(Converter):
  """Also reads and writes the names of Flax; our blocks are stacked.

  What is read raises ValueError if it is of a network of another `time` or
  `variance`, or if outputs for a variance were trained, as DiT's are. Positions
  are not read from Flax.
  """

  def from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """PyTorch's or Flax's arrays, as `Converter.from_torch`."""
    return _read(read, arrays, shapes)

  def ema_from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """The EMA weights of a checkpoint, as `Converter.ema_from_torch`."""
    return _read(read_ema, arrays, shapes)

  def to_torch(
    self,
    arrays: Mapping[str, np.ndarray],
    side: int,
    prefix: str = '',
    network: Mapping[str, Any] = MappingProxyType({}),
  ) -> Arrays:
    """Our arrays by PyTorch's names, as `Converter.to_torch`."""
    ours = {p: x for p, x in arrays.items() if not ONLY_OURS.match(p)}
    return super().to_torch(single_arrays(ours), side, prefix, network)

  def constants(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> frozenset[str]:
    """The paths of our arrays that are not trained."""
    return frozenset({'position'} & shapes.keys())

  def in_flax(self, theirs: Arrays) -> Arrays:
    """PyTorch's arrays, without prefixes, by MeanFlow's names in Flax."""
    return to_flax(theirs)


def to_flax(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """PyTorch's arrays, without prefixes, by MeanFlow's names in Flax.

  Raises:
    ValueError: if they have no embedding of t − s.
  """
  if not any(name.startswith(GAP) for name in arrays):
    raise ValueError(
      "network.time must be 'mean_flow' for a file of Flax: SiT has none"
    )
  return {
    f'net.{_renamed(name, TO_FLAX)}': _as_kernel(name, array)
    for name, array in arrays.items()
    if name != POSITIONS
  }


def _read(
  reader: Callable[..., Arrays],
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
) -> Arrays:
  """Our arrays, of which `reader` reads those of single layers."""
  theirs = _in_torch(arrays)
  bare = {part: theirs[n] for n in theirs if (part := NAMING.bare(n))}
  ours = {p: shape for p, shape in shapes.items() if not ONLY_OURS.match(p)}
  if any('_flax_' in name for name in arrays):
    ours.pop('position', None)
  _check(bare, ours)
  single = single_shapes(ours)
  read_ones = reader(theirs, single, make_rules(single), NAMING)
  return stacked(read_ones, STACKS)


def _check(theirs: Mapping[str, np.ndarray], shapes: Shapes) -> None:
  """Refuses weights of a network with another `time` or `variance`, or of DiT.

  Raises:
    ValueError: naming the option, or saying what DiT's weights are.
  """
  gap = any(name.startswith(GAP) for name in theirs)
  if gap != ('times.of_gap.first.kernel' in shapes):
    raise ValueError(
      "network.time must be 'mean_flow': these weights embed t - s"
      if gap
      else "network.time must be 'sit' or 'repa', not 'mean_flow': these "
      'weights have no h_embedder, which embeds t - s'
    )
  patch, _, channels, _ = shapes['first.kernel']
  last, (width, ours) = theirs.get(LAST, np.empty(0)), shapes['last.kernel']
  if last.ndim != 2 or last.shape[1] != width:
    return  # as the rules say of any array
  outputs = len(last)
  one = patch * patch * channels
  if outputs != ours and {outputs, ours} == {one, 2 * one}:
    raise ValueError(
      f'network.variance = {outputs == one} must be {outputs == 2 * one}: '
      f'{LAST} has the shape {list(last.shape)}'
    )
  if ours == 2 * one == outputs:
    _check_unused(last.reshape(-1, 2, channels, width))


def _check_unused(rows: np.ndarray) -> None:
  """Refuses trained outputs for a variance, [patch², 2, c, width]."""
  if rows[:, 1].any():
    raise ValueError(
      f'{LAST} has weights for a variance, as those of DiT have. They predict '
      'the noise of a diffusion in discrete steps, which makes no velocity of '
      "the linear path; SiT's are zero. If these are of a velocity "
      'nevertheless, set them to zero'
    )


def _rule(path: str, size: int) -> Rule:
  """The rule of one array with `size` axes."""
  if path == 'position':
    return Rule(path, POSITIONS, (0, 1, 2), learnt=False)
  layer, _, leaf = path.rpartition('.')
  match = LAYER.fullmatch(layer)
  names = INSIDE if match else LAYERS
  part = match[2] if match else layer
  axes = (0, 1) if part == 'label' else tuple(reversed(range(size)))
  if part not in names:
    raise ValueError(f'{path} is no array of a SiT')
  if size == 4:
    axes = (2, 3, 1, 0)
  name = names[part] if not match else f'blocks.{match[1]}.{names[part]}'
  return Rule(path, f'{name}.{"bias" if leaf == "bias" else "weight"}', axes)


def _in_torch(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Arrays of PyTorch or Flax by PyTorch's names, with their prefixes.

  Raises:
    ValueError: if one is there by two names.
  """
  theirs = Arrays()
  for name, array in arrays.items():
    new = _renamed(name, FROM_FLAX).replace('r_embedder.', GAP)
    if new in theirs:
      raise ValueError(
        f'{new} appears twice, as {name} too: save one of them alone'
      )
    theirs[new] = _as_weight(name, array)
  return theirs


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
  for pattern, new in rules:
    name = re.sub(pattern, new, name)
  return name


def _as_weight(name: str, array: np.ndarray) -> np.ndarray:
  """A kernel of Flax as PyTorch has it; anything else as it is."""
  if not name.endswith('.kernel'):
    return array
  return array.transpose((3, 2, 0, 1) if array.ndim == 4 else None)


def _as_kernel(name: str, array: np.ndarray) -> np.ndarray:
  """The inverse of `_as_weight`, by PyTorch's names."""
  if 'embedding_table' in name or name.endswith('.bias'):
    return array
  return array.transpose((2, 3, 1, 0) if array.ndim == 4 else None)
