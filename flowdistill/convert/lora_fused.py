"""LoRA of layers that the original networks have fused, both ways.

FLUX.1 and SD3 have one layer of queries, keys and values, where diffusers has
three, and a LoRA of the original network updates it as one: all parts share A,
and B has rows for each. Three updates of their own become one of the ranks'
sum, with B block-diagonal, as kohya's sd-scripts write it.

Sources: https://github.com/kohya-ss/sd-scripts, its network of FLUX
(`split_dims`); the names: `flux_original.py` and `sd3_original.py`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from flowdistill.convert import flux_original, sd3_original
from flowdistill.convert.halves import swapped
from flowdistill.convert.lora import Factors, Widths


@dataclasses.dataclass(frozen=True)
class Fused:
  """A layer of an original network.

  Attributes:
    name: there.
    parts: names in diffusers, in the order of its rows.
    swap: whether both halves of its rows are in the other order there.
  """

  name: str
  parts: tuple[str, ...]
  swap: bool = False

  def split(
    self, factors: Factors, widths: Widths
  ) -> Iterable[tuple[str, Factors]]:
    """(name in diffusers, its update) of all parts.

    Raises:
      ValueError: if B has another number of rows than they have together.
    """
    rows = [widths[part][0] for part in self.parts]
    if factors.b.ndim != 2 or len(factors.b) != sum(rows):
      raise ValueError(
        f'{self.name} has B of shape {list(factors.b.shape)}; it must have '
        f'{sum(rows)} rows, those of {", ".join(self.parts)}'
      )
    b = swapped(factors.b) if self.swap else factors.b
    each = np.split(b, np.cumsum(rows)[:-1])
    count = len(self.parts)
    if count > 1 and _is_diagonal(each):
      rank = factors.rank // count
      own = [slice(i * rank, (i + 1) * rank) for i in range(count)]
      pairs = [(factors.a[o], x[:, o]) for o, x in zip(own, each, strict=True)]
    else:
      pairs = [(factors.a, x) for x in each]
    ratio = factors.alpha / factors.rank
    for part, (a, b) in zip(self.parts, pairs, strict=True):
      yield part, Factors(a, b, ratio * len(a))

  def join(self, parts: Sequence[Factors | None], widths: Widths) -> Factors:
    """The update of the fused layer; one of None is 0.

    Parts with one and the same A keep it. Otherwise each has a block of its
    own, all of the largest rank.
    """
    known = [part.scaled for part in parts if part is not None]
    alike = len(known) == len(parts) and all(
      np.array_equal(part.a, known[0].a) for part in known
    )
    if alike:
      b = np.concatenate([part.b for part in known])
      joined = Factors(known[0].a, b, float(known[0].rank))
    else:
      joined = self._diagonal(parts, widths)
    b = swapped(joined.b) if self.swap else joined.b
    return Factors(joined.a, b, joined.alpha)

  def _diagonal(
    self, parts: Sequence[Factors | None], widths: Widths
  ) -> Factors:
    known = [part.scaled for part in parts if part is not None]
    rank, dtype = max(part.rank for part in known), known[0].a.dtype
    rows = [widths[part][0] for part in self.parts]
    a = np.zeros((rank * len(parts), known[0].a.shape[1]), dtype)
    b = np.zeros((sum(rows), rank * len(parts)), dtype)
    for i, part in enumerate(parts):
      if part is not None:
        one, row, column = part.scaled, sum(rows[:i]), i * rank
        a[column : column + one.rank] = one.a
        b[row : row + rows[i], column : column + one.rank] = one.b
    return Factors(a, b, float(len(a)))


def _is_diagonal(parts: Sequence[np.ndarray]) -> bool:
  """Whether each part has columns of its own, equally many."""
  count = len(parts)
  if parts[0].shape[1] % count:
    return False
  blocks = [np.split(part, count, axis=1) for part in parts]
  return not any(
    block.any()
    for i, row in enumerate(blocks)
    for j, block in enumerate(row)
    if i != j
  )


def flux_layers(names: Iterable[str]) -> list[Fused]:
  """The original layers of FLUX.1 that have the linear layers `names`."""
  known = set(names)
  return [
    Fused(layer, parts, layer == flux_original.HEAD)
    for layer, parts in flux_original.all_layers(known)
    if known.issuperset(parts)
  ]


def sd3_layers(names: Iterable[str]) -> list[Fused]:
  """The original layers of SD3 that have the linear layers `names`."""
  names = list(names)
  last = max(
    (int(m[1]) for n in names if (m := sd3_original.THEIRS.fullmatch(n))),
    default=-1,
  )
  found: dict[str, dict[int, str]] = {}
  swaps = set[str]()
  for name in names:
    match = sd3_original.THEIRS.fullmatch(name)
    inside = match[2] if match else name
    if match and inside in sd3_original.TO_INSIDE:
      layer, place = sd3_original.TO_INSIDE[inside]
      layer = f'joint_blocks.{match[1]}.{layer}'
    elif not match and inside in sd3_original.TO_OUTSIDE:
      layer, place = sd3_original.TO_OUTSIDE[inside], 0
    else:
      continue
    found.setdefault(layer, {})[place] = name
    at_end = match is not None and int(match[1]) == last
    if name == sd3_original.HEAD or (at_end and inside == sd3_original.LAST):
      swaps.add(layer)
  return [
    Fused(layer, tuple(parts[i] for i in sorted(parts)), layer in swaps)
    for layer, parts in found.items()
  ]


ORIGINALS: Mapping[str, Callable[[Iterable[str]], list[Fused]]] = {
  'flux': flux_layers,
  'sd3': sd3_layers,
}
"""Name of a network -> its layers in the original, of those in diffusers."""
