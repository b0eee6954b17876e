"""Predicts what a train step holds in memory, beside its arguments.

From its jaxpr alone, which is walked in the order of the program. What has
memory, and for how long:

1. A view (a reshape, the transpose of a matrix) has none of its own.
2. An elementwise result that only one other elementwise operation or reduction
   reads is never written down: its reader computes it on the way, and what it
   is computed from lives as long. A broadcast is never written down for them.
3. Whatever else an operation makes lives from there to its last reader. An
   elementwise result may take the place of an operand that ends there.
4. The update, all that leads to donated results alone, is taken to run array
   by array in the places of the old state. What it reads, the gradients, is
   held until then.
5. A donated array that the new value of another one is made from too is copied
   first (with Adam and an EMA: parameters and both moments), for the compiler
   does not know which is written first. The gradients, or what is as large,
   come to lie in the places that are left.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from flowdistill.planning.partition import Cut, pieces
from flowdistill.planning.program import (
  ELEMENTWISE,
  Operation,
  Program,
  alive,
  nbytes,
  unique,
)

END = 1 << 62  # after the last operation


@dataclasses.dataclass(frozen=True)
class Peak:
  """The bytes at the moment of a step when most is held beside its arguments.

  Attributes:
    activations: made before, and read again later.
    temporaries: what the operation of that moment reads for the last time,
      makes, and needs inside; and what copies of donated arrays add.
    gradients: those that are there already.
  """

  activations: int = 0
  temporaries: int = 0
  gradients: int = 0

  @property
  def total(self) -> int:
    """Of all three."""
    return self.activations + self.temporaries + self.gradients


def step_peak(
  step: Callable[..., Any],
  state: Any,
  *rest: Any,
  held: Any = None,
  cuts: Sequence[Cut] = (),
  parts: int = 1,
) -> Peak:
  """The peak of `step(state, *rest) -> (state, ...)`, its state donated.

  Args:
    step: a function that is not jitted.
    state: by shapes.
    *rest: by shapes.
    held: what a device holds of the state, by shapes; by default all of it.
    cuts: the axis along which each array of (state, *rest) is cut into parts,
      None for a whole one; what follows from them is `pieces`.
    parts: how many; by default nothing is cut.
  """
  kept = [nbytes(x) for x in jax.tree.leaves(state if held is None else held)]
  jaxpr = alive(jax.make_jaxpr(step)(state, *rest))
  size = pieces(jaxpr, cuts, parts) if parts > 1 else None
  return _peak(Program(jaxpr, size), kept)


def _peak(program: Program, donated: Sequence[int] = ()) -> Peak:
  """Of a program whose first inputs and results are donated, of these bytes."""
  whole = sum(program.sizes[v] for v in program.inputs[: len(donated)])
  share = sum(donated) / whole if donated else 1.0
  fresh = -1 << len(donated)
  first = [o for o in program.operations if o.leads & fresh]
  update = [o for o in program.operations if not o.leads & fresh]
  last = _last_reads(program, first)
  gradients = {
    b: int(program.sizes[b] * share)
    for o in update
    for b in _below(program, o)
    if b in last
  }
  copies = _copies(program, update, donated)
  copies -= min(copies, sum(gradients.values()))
  peak = _walk(program, first, last, gradients)
  temporaries = peak.temporaries + copies
  return dataclasses.replace(peak, temporaries=temporaries)


def _below(program: Program, operation: Operation) -> tuple[int, ...]:
  """The buffers that an operation reads, the program's inputs left out."""
  found = (program.buffers.get(v, ()) for v in unique(operation.reads))
  return unique(b for buffers in found for b in buffers)


def _last_reads(
  program: Program, operations: Sequence[Operation]
) -> dict[int, int]:
  """Buffer -> the number of the operation that reads it last."""
  last: dict[int, int] = {}
  for k, operation in enumerate(operations):
    made = [v for v in operation.writes if program.buffers[v] == (v,)]
    last |= dict.fromkeys(made, k)
    if made:
      last |= dict.fromkeys(_below(program, operation), k)
  return last | {v: END for v in unique(program.outputs) if v in last}


def _copies(
  program: Program, update: Sequence[Operation], donated: Sequence[int]
) -> int:
  """The bytes of donated arrays that more than their own successor needs."""
  number = {v: i for i, v in enumerate(program.inputs[: len(donated)])}
  copied = {
    number[v]
    for operation in update
    for v in unique(operation.reads)
    if v in number and operation.leads & ~(1 << number[v])
  }
  return sum(donated[i] for i in copied)


def _walk(
  program: Program,
  operations: Sequence[Operation],
  last: Mapping[int, int],
  gradients: Mapping[int, int],
) -> Peak:
  """Goes through the operations; gradients, once made, stay."""
  peak, kept, ready = Peak(), 0, 0
  ends: dict[int, list[int]] = {}
  for buffer, k in last.items():
    ends.setdefault(k, []).append(buffer)
  for k, operation in enumerate(operations):
    made = [v for v in operation.writes if v in last]
    ready += sum(gradients.get(v, 0) for v in made)
    kept += sum(program.sizes[v] for v in made if v not in gradients)
    over = [b for b in ends.get(k, ()) if b not in gradients]
    kept -= sum(program.sizes[b] for b in over)
    now = Peak(kept, _passing(program, operation, made, over), ready)
    peak = max(peak, now, key=lambda p: p.total)
  return peak


def _passing(
  program: Program,
  operation: Operation,
  made: Sequence[int],
  over: Sequence[int],
) -> int:
  """The bytes of what ends with an operation, and of what it needs inside."""
  inside = [
    _peak(Program(body, program.size)).total for body in operation.inner
  ]
  sizes = {b: program.sizes[b] for b in over}
  new = sum(program.sizes[v] for v in made)
  passing = sum(sizes.values()) + max(inside, default=0)
  if operation.name not in ELEMENTWISE:
    return passing
  fitting = [b for v, b in sizes.items() if v not in made and b <= new]
  return passing - max(fitting, default=0)
