"""What is sent, and held, where arrays are cut along one axis: `tensor`.

A jaxpr is walked as the compiler's partitioner walks a program. A value is
whole on every device, or cut along one of its axes, and:

1. A product that sums over a cut axis leaves every device with a part of the
   sum: its result is reduced, and whole. So is a reduction over a cut axis.
2. A product keeps the cut of an axis that it does not sum over; elementwise
   operations, transposes and broadcasts keep it too, and a whole operand beside
   a cut one is cut for nothing. A reshape keeps it where the pieces are still
   one axis's, in order and equal.
3. What cannot keep it reads the whole value, which is gathered, once.

The partitioner may find a cheaper way; where it does, this is too much.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import Literal

from flowdistill.planning.flops import bodies
from flowdistill.planning.program import (
  BROADCASTS,
  ELEMENTWISE,
  LOOPS,
  REDUCTIONS,
  nbytes,
  opened,
)

ALL_REDUCE, ALL_GATHER = 'all-reduce', 'all-gather'
Cut = int | None
MOVES = {'concatenate', 'gather', 'pad', 'rev', 'slice', 'split', 'stack'}
RESHAPES = {'expand_dims', 'reshape', 'squeeze'}
PLAIN = (ELEMENTWISE - BROADCASTS - MOVES - {'transpose'}) | {
  *('copy', 'stop_gradient'),
}


def sent(jaxpr: Any, cuts: Sequence[Cut], parts: int) -> Counter[str]:
  """Collective -> bytes of the whole arrays that it is about, on a device.

  Args:
    jaxpr: of the function.
    cuts: the axis along which each of its inputs is cut, None for a whole one.
    parts: how many.
  """
  return _Walk(opened(jaxpr), cuts, parts).sent


def pieces(jaxpr: Any, cuts: Sequence[Cut], parts: int) -> Callable[[Any], int]:
  """Variable -> its bytes on a device, also of those of calls and loops.

  One that several calls share is whole if it is so in one of them.
  """
  walk = _Walk(opened(jaxpr), cuts, parts)
  cut = walk.pieces - walk.whole
  return lambda v: nbytes(v.aval) // (parts if v in cut else 1)


class _Walk:
  """Goes through one jaxpr; `outs` are the cuts of its results.

  Of its variables, and of those within, `pieces` were cut and `whole` not.
  """

  def __init__(self, jaxpr: Any, cuts: Sequence[Cut], parts: int):
    self.parts, self.sent = parts, Counter()
    self.pieces, self.whole = set[Any](), set[Any]()
    self.cuts: dict[Any, Cut] = dict(zip(jaxpr.invars, cuts, strict=True))
    for eqn in jaxpr.eqns:
      self.cuts |= dict(zip(eqn.outvars, self._equation(eqn), strict=True))
    self.outs = [self._of(v) for v in jaxpr.outvars]
    for variable, cut in self.cuts.items():
      (self.whole if cut is None else self.pieces).add(variable)

  def _saw(self, walk: '_Walk') -> None:
    self.pieces |= walk.pieces
    self.whole |= walk.whole

  def _of(self, atom: Any) -> Cut:
    return None if isinstance(atom, Literal) else self.cuts.get(atom)

  def _gather(self, atom: Any) -> None:
    """From here on it is whole."""
    if self._of(atom) is not None:
      self.sent[ALL_GATHER] += nbytes(atom.aval)
      self.cuts[atom] = None

  def _reduce(self, eqn: Any) -> list[Cut]:
    self.sent[ALL_REDUCE] += sum(nbytes(v.aval) for v in eqn.outvars)
    return [None] * len(eqn.outvars)

  def _equation(self, eqn: Any) -> list[Cut]:
    name, inner = eqn.primitive.name, bodies(eqn.params.values())
    if all(self._of(v) is None for v in eqn.invars) and not inner:
      return [None] * len(eqn.outvars)
    if name == 'dot_general':
      return self._product(eqn)
    if name == 'scan':
      return self._scan(eqn, inner[0])
    if name not in LOOPS and _is_call(eqn, inner):
      return self._call(inner[0], eqn.invars)
    if name in REDUCTIONS and self._of(eqn.invars[0]) in eqn.params['axes']:
      return self._reduce(eqn)
    beside = name == 'concatenate' and not self._joins(eqn)
    if name in PLAIN or beside:
      return self._together(eqn)
    kept = _kept(eqn, self._of(eqn.invars[0]), self.parts)
    if kept is None:
      for atom in eqn.invars:
        self._gather(atom)
    return [kept] * len(eqn.outvars)

  def _call(self, jaxpr: Any, atoms: Sequence[Any]) -> list[Cut]:
    walk = _Walk(opened(jaxpr), [self._of(v) for v in atoms], self.parts)
    self.sent += walk.sent
    self._saw(walk)
    for atom, inside in zip(atoms, opened(jaxpr).invars, strict=True):
      if self._of(atom) is not None:
        self.cuts[atom] = walk.cuts[inside]
    return walk.outs

  def _joins(self, eqn: Any) -> bool:
    """Whether pieces are put one behind the other along a cut axis."""
    axis = eqn.params['dimension']
    return axis in (self._of(v) for v in eqn.invars)

  def _together(self, eqn: Any) -> list[Cut]:
    """Operands of one shape; of those that are cut, the first says where."""
    cuts = [c for v in eqn.invars if (c := self._of(v)) is not None]
    for atom in eqn.invars:
      if self._of(atom) not in (None, cuts[0]):
        self._gather(atom)
    return [cuts[0]] * len(eqn.outvars)

  def _product(self, eqn: Any) -> list[Cut]:
    left, right = eqn.invars
    sums, batches = eqn.params['dimension_numbers']
    a, b = self._of(left), self._of(right)
    if _summed(a, b, sums):
      return self._reduce(eqn)
    pairs = [*zip(*batches, strict=True)]
    if a is not None and b is not None and (a, b) not in pairs:
      self._gather(min(left, right, key=lambda v: nbytes(v.aval)))
      return self._product(eqn)
    rows = _order(left, sums[0], batches[0])
    if a is not None:
      return [rows.index(a)]
    kept: list[Cut] = [*_order(right, sums[1], batches[1])]
    at = kept.index(b)
    return [at if at < len(pairs) else at + len(rows) - len(pairs)]

  def _scan(self, eqn: Any, body: Any) -> list[Cut]:
    """Its carry is cut if it is cut at both ends of the body."""
    consts, carried = eqn.params['num_consts'], eqn.params['num_carry']
    stacked = consts + carried
    for atom in eqn.invars[stacked:]:
      if self._of(atom) == 0:
        self._gather(atom)
    cuts = [self._of(v) for v in eqn.invars]
    cuts[stacked:] = [c and c - 1 for c in cuts[stacked:]]
    outs = _Walk(opened(body), cuts, self.parts).outs
    for i, out in enumerate(outs[:carried]):
      if cuts[consts + i] != out:
        self._gather(eqn.invars[consts + i])
        cuts[consts + i] = None
    walk = _Walk(opened(body), cuts, self.parts)
    self._saw(walk)
    for name, size in walk.sent.items():
      self.sent[name] += eqn.params['length'] * size
    ys = [None if c is None else c + 1 for c in walk.outs[carried:]]
    return [*cuts[consts:stacked], *ys]


def _is_call(eqn: Any, inner: Sequence[Any]) -> bool:
  """Of whatever name; a scatter has a body too, but of two numbers."""
  sizes = [len(opened(body).invars) for body in inner]
  return sizes == [len(eqn.invars)]


def _summed(a: Cut, b: Cut, sums: Any) -> bool:
  """Whether a product sums over the cut axis of all operands that have one."""
  if a is None or b is None:
    return a in sums[0] or b in sums[1]
  return (a, b) in zip(*sums, strict=True)


def _order(operand: Any, sums: Any, batches: Any) -> list[int]:
  """The axes of an operand that a product keeps, as its result has them."""
  axes = range(operand.aval.ndim)
  return [*batches, *(i for i in axes if i not in (*sums, *batches))]


def _kept(eqn: Any, cut: Cut, parts: int) -> Cut:
  """The cut of the result of an operation on one array, None for none."""
  name, params, out = eqn.primitive.name, eqn.params, eqn.outvars[0].aval
  if cut is None:
    return None
  shape = eqn.invars[0].aval.shape
  if name == 'transpose':
    return params['permutation'].index(cut)
  if name == 'broadcast_in_dim':
    return params['broadcast_dimensions'][cut]
  if name in REDUCTIONS:
    return cut - sum(axis < cut for axis in params['axes'])
  if name in ('pad', 'slice', 'split') and out.shape[cut] == shape[cut]:
    return cut
  if name in RESHAPES:
    before = math.prod(shape[:cut])
    fits = (
      i
      for i, size in enumerate(out.shape)
      if math.prod(out.shape[:i]) == before and size > 1 and not size % parts
    )
    return next(fits, None)
  return None
