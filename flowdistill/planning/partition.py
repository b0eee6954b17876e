"""The bytes sent and held when arrays are sharded along the axis `tensor`.

A jaxpr is walked as the compiler's partitioner walks a program. A value is
replicated on every device, or sharded on one of its axes, and:

1. A product that sums over a sharded axis leaves every device with a partial
   sum: its result is all-reduced, and replicated. So is a reduction over a
   sharded axis.
2. A product stays sharded on an axis that it does not sum over, and so do
   elementwise operations, transposes and broadcasts. A replicated operand
   beside a sharded one is sharded at no cost. A reshape stays sharded where the
   shards are still those of one axis, in order and of equal size.
3. Any other operation reads the whole value, which is all-gathered once.

The partitioner may find a cheaper program; the prediction is then too high.
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
Axis = int | None
MOVES = {'concatenate', 'gather', 'pad', 'rev', 'slice', 'split', 'stack'}
RESHAPES = {'expand_dims', 'reshape', 'squeeze'}
PLAIN = (ELEMENTWISE - BROADCASTS - MOVES - {'transpose'}) | {
  *('copy', 'stop_gradient'),
}


def sent(jaxpr: Any, axes: Sequence[Axis], parts: int) -> Counter[str]:
  """Collective -> bytes of the whole arrays that it reduces or gathers.

  Args:
    jaxpr: of the function.
    axes: the axis on which each input is sharded, None if it is replicated.
    parts: number of shards.
  """
  return _Walk(opened(jaxpr), axes, parts).sent


def shard_bytes(
  jaxpr: Any, axes: Sequence[Axis], parts: int
) -> Callable[[Any], int]:
  """Variable -> its bytes on a device, also for those in calls and loops.

  One that several calls share is replicated if it is so in any of them.
  """
  walk = _Walk(opened(jaxpr), axes, parts)
  sharded = walk.sharded - walk.replicated
  return lambda v: nbytes(v.aval) // (parts if v in sharded else 1)


class _Walk:
  """Walks through one jaxpr.

  Attributes:
    axes: variable -> the axis on which it is sharded, None if on none.
    outs: the axes of the results.
    sent: collective -> bytes.
    sharded, replicated: variables, also of the jaxprs inside.
  """

  def __init__(self, jaxpr: Any, axes: Sequence[Axis], parts: int):
    self.parts, self.sent = parts, Counter()
    self.sharded, self.replicated = set[Any](), set[Any]()
    self.axes: dict[Any, Axis] = dict(zip(jaxpr.invars, axes, strict=True))
    for eqn in jaxpr.eqns:
      self.axes |= dict(zip(eqn.outvars, self._equation(eqn), strict=True))
    self.outs = [self._axis(v) for v in jaxpr.outvars]
    for variable, axis in self.axes.items():
      (self.replicated if axis is None else self.sharded).add(variable)

  def _include(self, walk: '_Walk') -> None:
    self.sharded |= walk.sharded
    self.replicated |= walk.replicated

  def _axis(self, atom: Any) -> Axis:
    return None if isinstance(atom, Literal) else self.axes.get(atom)

  def _gather(self, atom: Any) -> None:
    """All-gathers a value, which is then replicated."""
    if self._axis(atom) is not None:
      self.sent[ALL_GATHER] += nbytes(atom.aval)
      self.axes[atom] = None

  def _reduce(self, eqn: Any) -> list[Axis]:
    self.sent[ALL_REDUCE] += sum(nbytes(v.aval) for v in eqn.outvars)
    return [None] * len(eqn.outvars)

  def _equation(self, eqn: Any) -> list[Axis]:
    name, inner = eqn.primitive.name, bodies(eqn.params.values())
    if all(self._axis(v) is None for v in eqn.invars) and not inner:
      return [None] * len(eqn.outvars)
    if name == 'dot_general':
      return self._product(eqn)
    if name == 'scan':
      return self._scan(eqn, inner[0])
    if name not in LOOPS and _is_call(eqn, inner):
      return self._call(inner[0], eqn.invars)
    if name in REDUCTIONS and self._axis(eqn.invars[0]) in eqn.params['axes']:
      return self._reduce(eqn)
    beside = name == 'concatenate' and not self._joins_shards(eqn)
    if name in PLAIN or beside:
      return self._elementwise(eqn)
    axis = _followed(eqn, self._axis(eqn.invars[0]), self.parts)
    if axis is None:
      for atom in eqn.invars:
        self._gather(atom)
    return [axis] * len(eqn.outvars)

  def _call(self, jaxpr: Any, atoms: Sequence[Any]) -> list[Axis]:
    walk = _Walk(opened(jaxpr), [self._axis(v) for v in atoms], self.parts)
    self.sent += walk.sent
    self._include(walk)
    for atom, inside in zip(atoms, opened(jaxpr).invars, strict=True):
      if self._axis(atom) is not None:
        self.axes[atom] = walk.axes[inside]
    return walk.outs

  def _joins_shards(self, eqn: Any) -> bool:
    """Whether a concatenation is along a sharded axis."""
    axis = eqn.params['dimension']
    return axis in (self._axis(v) for v in eqn.invars)

  def _elementwise(self, eqn: Any) -> list[Axis]:
    """The result is sharded as the first operand that is."""
    axes = [c for v in eqn.invars if (c := self._axis(v)) is not None]
    for atom in eqn.invars:
      if self._axis(atom) not in (None, axes[0]):
        self._gather(atom)
    return [axes[0]] * len(eqn.outvars)

  def _product(self, eqn: Any) -> list[Axis]:
    left, right = eqn.invars
    sums, batches = eqn.params['dimension_numbers']
    a, b = self._axis(left), self._axis(right)
    if _summed(a, b, sums):
      return self._reduce(eqn)
    pairs = [*zip(*batches, strict=True)]
    if a is not None and b is not None and (a, b) not in pairs:
      self._gather(min(left, right, key=lambda v: nbytes(v.aval)))
      return self._product(eqn)
    rows = _free_axes(left, sums[0], batches[0])
    if a is not None:
      return [rows.index(a)]
    columns: list[Axis] = [*_free_axes(right, sums[1], batches[1])]
    at = columns.index(b)
    return [at if at < len(pairs) else at + len(rows) - len(pairs)]

  def _scan(self, eqn: Any, body: Any) -> list[Axis]:
    """The carry is sharded if it is so before and after the body."""
    consts, carried = eqn.params['num_consts'], eqn.params['num_carry']
    stacked = consts + carried
    for atom in eqn.invars[stacked:]:
      if self._axis(atom) == 0:
        self._gather(atom)
    axes = [self._axis(v) for v in eqn.invars]
    axes[stacked:] = [c and c - 1 for c in axes[stacked:]]
    outs = _Walk(opened(body), axes, self.parts).outs
    for i, out in enumerate(outs[:carried]):
      if axes[consts + i] != out:
        self._gather(eqn.invars[consts + i])
        axes[consts + i] = None
    walk = _Walk(opened(body), axes, self.parts)
    self._include(walk)
    for name, size in walk.sent.items():
      self.sent[name] += eqn.params['length'] * size
    ys = [None if c is None else c + 1 for c in walk.outs[carried:]]
    return [*axes[consts:stacked], *ys]


def _is_call(eqn: Any, inner: Sequence[Any]) -> bool:
  """By its body, whatever its name; that of a scatter takes two scalars."""
  sizes = [len(opened(body).invars) for body in inner]
  return sizes == [len(eqn.invars)]


def _summed(a: Axis, b: Axis, sums: Any) -> bool:
  """Whether a product sums over the axes on which operands are sharded."""
  if a is None or b is None:
    return a in sums[0] or b in sums[1]
  return (a, b) in zip(*sums, strict=True)


def _free_axes(operand: Any, sums: Any, batches: Any) -> list[int]:
  """The axes of an operand that a product keeps, in the result's order."""
  axes = range(operand.aval.ndim)
  return [*batches, *(i for i in axes if i not in (*sums, *batches))]


def _followed(eqn: Any, axis: Axis, parts: int) -> Axis:
  """The axis on which the result of an operation on one array is sharded."""
  name, params, out = eqn.primitive.name, eqn.params, eqn.outvars[0].aval
  if axis is None:
    return None
  shape = eqn.invars[0].aval.shape
  if name == 'transpose':
    return params['permutation'].index(axis)
  if name == 'broadcast_in_dim':
    return params['broadcast_dimensions'][axis]
  if name in REDUCTIONS:
    return axis - sum(reduced < axis for reduced in params['axes'])
  if name in ('pad', 'slice', 'split') and out.shape[axis] == shape[axis]:
    return axis
  if name in RESHAPES:
    before = math.prod(shape[:axis])
    fits = (
      i
      for i, size in enumerate(out.shape)
      if math.prod(out.shape[:i]) == before and size > 1 and not size % parts
    )
    return next(fits, None)
  return None
