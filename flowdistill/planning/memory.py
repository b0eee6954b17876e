"""Predicts the memory of a train step, beside its arguments.

It needs only the jaxpr, which is walked in program order. What is allocated,
and for how long:

1. A view (a reshape, the transpose of a matrix) has no memory of its own.
2. An elementwise result that only one other elementwise operation or reduction
   reads is never materialised: it is fused into its reader, and its own inputs
   live until then. A broadcast is never materialised for such readers.
3. Any other result lives from its operation to its last reader. An elementwise
   result may reuse the buffer of an operand that dies there.
4. The update (all operations that only donated results depend on) is assumed to
   run array by array, in place of the old state. What it reads, the gradients,
   is held until then.
5. A donated array that the new value of another one also depends on is copied
   first (with Adam and an EMA: parameters and both moments), for the compiler
   does not know which is written first. The gradients, or arrays of their size,
   reuse the buffers that become free.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from flowdistill.planning.partition import Axis, shard_bytes
from flowdistill.planning.program import (
  ELEMENTWISE,
  Operation,
  Program,
  nbytes,
  unique,
  without_dead_code,
)

END = 1 << 62  # after the last operation


@dataclasses.dataclass(frozen=True)
class Peak:
  """The bytes beside the arguments at the peak of a step.

  Attributes:
    activations: computed earlier, and read again later.
    temporaries: what the operation at the peak reads for the last time, writes,
      and needs internally; and copies of donated arrays.
    gradients: those that are already computed.
  """

  activations: int = 0
  temporaries: int = 0
  gradients: int = 0

  @property
  def total(self) -> int:
    """The sum of all three."""
    return self.activations + self.temporaries + self.gradients


def step_peak(
  step: Callable[..., Any],
  state: Any,
  *rest: Any,
  shards: Any = None,
  axes: Sequence[Axis] = (),
  parts: int = 1,
) -> Peak:
  """The peak of `step(state, *rest) -> (state, ...)`, whose state is donated.

  Args:
    step: a function that is not jitted.
    state: abstractly.
    *rest: abstractly.
    shards: the part of the state that a device holds, abstractly; by default
      all of it.
    axes: the axis on which each array of (state, *rest) is sharded, None if it
      is replicated; those of other values follow, see `shard_bytes`.
    parts: number of shards; by default nothing is sharded.
  """
  leaves = jax.tree.leaves(state if shards is None else shards)
  jaxpr = without_dead_code(jax.make_jaxpr(step)(state, *rest))
  size = shard_bytes(jaxpr, axes, parts) if parts > 1 else None
  return _peak(Program(jaxpr, size), [nbytes(x) for x in leaves])


def _peak(program: Program, donated: Sequence[int] = ()) -> Peak:
  """Of a program whose first inputs, of these bytes, are donated to results."""
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
  """The buffers that an operation reads, without the program's inputs."""
  below = (program.buffers.get(v, ()) for v in unique(operation.reads))
  return unique(b for buffers in below for b in buffers)


def _last_reads(
  program: Program, operations: Sequence[Operation]
) -> dict[int, int]:
  """Buffer -> the number of the operation that reads it last."""
  last: dict[int, int] = {}
  for k, operation in enumerate(operations):
    written = [v for v in operation.writes if program.buffers[v] == (v,)]
    last |= dict.fromkeys(written, k)
    if written:
      last |= dict.fromkeys(_below(program, operation), k)
  return last | {v: END for v in unique(program.outputs) if v in last}


def _copies(
  program: Program, update: Sequence[Operation], donated: Sequence[int]
) -> int:
  """Bytes of donated arrays on which another result than their own depends."""
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
  """The peak over the operations; gradients live from their operation on."""
  peak, live, ready = Peak(), 0, 0
  ends: dict[int, list[int]] = {}
  for buffer, k in last.items():
    ends.setdefault(k, []).append(buffer)
  for k, operation in enumerate(operations):
    written = [v for v in operation.writes if v in last]
    ready += sum(gradients.get(v, 0) for v in written)
    live += sum(program.sizes[v] for v in written if v not in gradients)
    dying = [b for b in ends.get(k, ()) if b not in gradients]
    live -= sum(program.sizes[b] for b in dying)
    now = Peak(live, _temporaries(program, operation, written, dying), ready)
    peak = max(peak, now, key=lambda p: p.total)
  return peak


def _temporaries(
  program: Program,
  operation: Operation,
  written: Sequence[int],
  dying: Sequence[int],
) -> int:
  """Bytes that die with an operation, and those that it needs internally."""
  inside = [
    _peak(Program(body, program.size)).total for body in operation.inner
  ]
  sizes = {b: program.sizes[b] for b in dying}
  new = sum(program.sizes[v] for v in written)
  total = sum(sizes.values()) + max(inside, default=0)
  if operation.name not in ELEMENTWISE:
    return total
  reusable = [b for v, b in sizes.items() if v not in written and b <= new]
  return total - max(reusable, default=0)
