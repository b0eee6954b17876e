"""Low-rank updates of linear layers, ΔW = (α / r) B A, by the layers' names.

Names and layouts are PyTorch's: a weight is [out, in], A [r, in] and B
[out, r]. Ours are the transposes, and stacked layers have one array of each:
lora_a [depth, in, r] and lora_b [depth, r, out] beside the kernel.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021),
https://arxiv.org/abs/2106.09685, section 4.1.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from flowdistill.convert.rules import Arrays, Rule, Shapes
from flowdistill.convert.stacked import single_arrays, single_shapes, stacked

A, B = 'lora_a', 'lora_b'
"""The last parts of the paths of our factors."""
FACTOR = re.compile(rf'(.+)\.(?:{A}|{B})')
Widths = Mapping[str, tuple[int, int]]
"""Name of a linear layer -> (out, in)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Factors:
  """The update of one layer.

  Attributes:
    a: A, [r, in].
    b: B, [out, r].
    alpha: α.
  """

  a: np.ndarray
  b: np.ndarray
  alpha: float

  @property
  def rank(self) -> int:
    """r."""
    return len(self.a)

  @property
  def delta(self) -> np.ndarray:
    """ΔW, [out, in]."""
    return (self.alpha / self.rank) * (self.b @ self.a)

  @property
  def scaled(self) -> 'Factors':
    """The same update, with α / r in B and α = r."""
    b = self.b * np.asarray(self.alpha / self.rank, self.b.dtype)
    return Factors(self.a, b, float(self.rank))


LoRA = Mapping[str, Factors]
"""Name of a layer -> its update."""


def widths_of(shapes: Shapes, rules: Sequence[Rule]) -> Widths:
  """The linear layers of a network by their names in PyTorch.

  Args:
    shapes: path in our network -> shape; no layer is stacked.
    rules: of its arrays.
  """
  return {
    layer: (shapes[rule.ours][1], shapes[rule.ours][0])
    for layer, rule in _linear(rules).items()
  }


def _linear(rules: Sequence[Rule]) -> dict[str, Rule]:
  """Name of a linear layer in PyTorch -> the rule of its weight."""
  return {
    rule.theirs.removesuffix('.weight'): rule
    for rule in rules
    if rule.axes == (1, 0) and rule.theirs.endswith('.weight')
  }


def check_fits(name: str, factors: Factors, widths: Widths) -> None:
  """Checks the shapes of an update against its layer.

  Raises:
    ValueError: naming the layer, if they do not fit, the rank is above a width
      of it, or α is not finite.
  """
  a, b = factors.a.shape, factors.b.shape
  out, inside = widths[name]
  if len(a) != 2 or len(b) != 2 or (a[1], b[0], b[1]) != (inside, out, a[0]):
    raise ValueError(
      f'{name} has A of shape {list(a)} and B of shape {list(b)}; for a layer '
      f'of {inside} to {out} they must be [r, {inside}] and [{out}, r]'
    )
  if not 1 <= a[0] <= min(inside, out):
    raise ValueError(
      f'{name} has rank {a[0]}, which must be at least 1 and at most '
      f'{min(inside, out)}, the smaller width of the layer'
    )
  if not np.isfinite(factors.alpha):
    raise ValueError(f'{name} has alpha = {factors.alpha}, not a finite number')


def from_ours(
  arrays: Mapping[str, np.ndarray], scale: float, rules: Sequence[Rule]
) -> dict[str, Factors]:
  """Our factors by the names of PyTorch.

  Args:
    arrays: by our paths, such as 'blocks.each.qkv.lora_a'; others are ignored.
    scale: α / r, of all of them.
    rules: of the network, whose layers are not stacked.

  Raises:
    ValueError: naming a layer that is not linear in PyTorch.
  """
  names = {rule.ours: name for name, rule in _linear(rules).items()}
  factors = {p: x for p, x in arrays.items() if FACTOR.fullmatch(p)}
  single, found = single_arrays(factors), dict[str, Factors]()
  for path in single:
    layer, _, leaf = path.rpartition('.')
    if leaf != A:
      continue
    if (name := names.get(f'{layer}.kernel')) is None:
      raise ValueError(f'{layer} is no linear layer in PyTorch')
    a, b = single[path].T, single[f'{layer}.{B}'].T
    found[name] = Factors(a, b, scale * len(a))
  return found


def to_ours(
  lora: LoRA, scale: float, shapes: Shapes, rules: Sequence[Rule]
) -> Arrays:
  """The inverse of `from_ours`, with α / r = scale.

  Args:
    lora: by the names of PyTorch.
    scale: of ours.
    shapes: our path -> shape, of all factors.
    rules: of the network, whose layers are not stacked.

  Raises:
    ValueError: naming the layers that only one of both has, or one of another
      rank.
  """
  factors = {p: s for p, s in shapes.items() if FACTOR.fullmatch(p)}
  single = single_shapes(factors)
  names = {rule.ours: name for name, rule in _linear(rules).items()}
  wanted = {
    names[f'{path.removesuffix(f".{A}")}.kernel']: path.removesuffix(f'.{A}')
    for path in single
    if path.endswith(f'.{A}')
  }
  if other := sorted(wanted.keys() ^ lora.keys()):
    raise ValueError(
      f'{", ".join(other)}: these layers are not adapted by both this LoRA and '
      'the network'
    )
  arrays = Arrays()
  for name, layer in wanted.items():
    arrays |= _our_pair(layer, name, lora[name], scale, single)
  stacks = {p.partition('.')[0] for p in factors if '.each.' in p}
  return stacked(arrays, stacks)


def _our_pair(
  layer: str, name: str, factors: Factors, scale: float, shapes: Shapes
) -> Arrays:
  """A and B of one layer by our paths."""
  rank = shapes[f'{layer}.{A}'][-1]
  if factors.rank != rank:
    raise ValueError(
      f'{name} has rank {factors.rank}, and that of the network is {rank}'
    )
  ratio = factors.alpha / factors.rank / scale
  b = factors.b * np.asarray(ratio, factors.b.dtype)
  return {f'{layer}.{A}': factors.a.T, f'{layer}.{B}': b.T}
