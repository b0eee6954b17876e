"""A jaxpr as one list of operations, for the analysis of lifetimes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jax.extend.core import Literal
from jax.interpreters import partial_eval

from flowdistill.planning.flops import bodies

Values = tuple[int | None, ...]
Size = Callable[[Any], int]
VIEWS = {'copy', 'expand_dims', 'reshape', 'squeeze', 'stop_gradient'}
BROADCASTS = {'broadcast_in_dim', 'iota'}
ELEMENTWISE = BROADCASTS | {
  *('abs', 'add', 'add_any', 'and', 'atan2', 'bitcast_convert_type', 'cbrt'),
  *('ceil', 'clamp', 'concatenate', 'convert_element_type', 'cos', 'div', 'eq'),
  *('erf', 'erf_inv', 'erfc', 'exp', 'exp2', 'expm1', 'floor', 'gather', 'ge'),
  *('gt', 'integer_pow', 'is_finite', 'le', 'log', 'log1p', 'logistic', 'lt'),
  *('max', 'min', 'mul', 'ne', 'neg', 'not', 'or', 'pad', 'pow', 'rem', 'rev'),
  *('round', 'rsqrt', 'select_n', 'shift_left', 'shift_right_logical', 'sign'),
  *('sin', 'slice', 'split', 'sqrt', 'square', 'stack', 'sub', 'tan', 'tanh'),
  *('transpose', 'xor'),
}
REDUCTIONS = {
  *('argmax', 'argmin', 'reduce_and', 'reduce_max', 'reduce_min', 'reduce_or'),
  *('reduce_prod', 'reduce_sum'),
}
CALLS = {
  *('checkpoint', 'closed_call', 'custom_jvp_call', 'custom_vjp_call', 'jit'),
}
LOOPS = {'cond', 'scan', 'while'}  # their bodies run by themselves


@dataclasses.dataclass(frozen=True)
class Operation:
  """One equation.

  Attributes:
    name: of its primitive.
    reads: values, by number; None is a literal.
    writes: values.
    inner: the jaxprs of the body of a loop, or of the branches of a cond.
    leads: the results that depend on it, as a bit mask.
  """

  name: str
  reads: Values
  writes: tuple[int, ...]
  inner: tuple[Any, ...]
  leads: int = 0


class Program:
  """All operations of a jaxpr that a result depends on; calls are inlined.

  Attributes:
    size: variable -> its bytes, also for variables within loops.
    sizes: bytes of every value. A view of a value counts as that value.
    inputs, outputs: values.
    operations: in order.
  """

  def __init__(self, jaxpr: Any, size: Size | None = None):
    self.size: Size = size or (lambda v: nbytes(v.aval))
    self.sizes: list[int] = []
    self.operations: list[Operation] = []
    self.inputs = [self._new(v) for v in jaxpr.invars]
    self.outputs = self._run(jaxpr, self.inputs)
    self.operations = self._live()

  @functools.cached_property
  def readers(self) -> dict[int, list[Operation]]:
    """Value -> the operations that read it."""
    readers: dict[int, list[Operation]] = {}
    for operation in self.operations:
      for value in unique(operation.reads):
        readers.setdefault(value, []).append(operation)
    return readers

  @functools.cached_property
  def buffers(self) -> dict[int, tuple[int, ...]]:
    """Value -> itself if it is materialised, else what it is computed from."""
    buffers: dict[int, tuple[int, ...]] = {}
    for operation in self.operations:
      below = [buffers.get(v, ()) for v in unique(operation.reads)]
      for value in operation.writes:
        written = self._is_written(operation, value)
        buffers[value] = (value,) if written else unique(sum(below, ()))
    return buffers

  def _is_written(self, operation: Operation, value: int) -> bool:
    """Whether it is materialised, not fused into the reading operation."""
    readers = self.readers.get(value, [])
    return (
      operation.name not in ELEMENTWISE
      or value in self.outputs
      or any(r.name not in ELEMENTWISE | REDUCTIONS for r in readers)
      or (operation.name not in BROADCASTS and len(readers) > 1)
    )

  def _new(self, variable: Any) -> int:
    self.sizes.append(self.size(variable))
    return len(self.sizes) - 1

  def _run(self, jaxpr: Any, inputs: Sequence[int | None]) -> Values:
    jaxpr = opened(jaxpr)
    known = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {v: self._new(v) for v in jaxpr.constvars}

    def read(atoms: Iterable[Any]) -> Values:
      return tuple(None if isinstance(a, Literal) else known[a] for a in atoms)

    for eqn in jaxpr.eqns:
      values = self._equation(eqn, read(eqn.invars))
      known |= dict(zip(eqn.outvars, values, strict=True))
    return read(jaxpr.outvars)

  def _equation(self, eqn: Any, reads: Values) -> Values:
    name, inner = eqn.primitive.name, bodies(eqn.params.values())
    if name in CALLS and len(inner) == 1:
      return self._run(inner[0], reads)
    if _is_view(eqn):
      return reads
    writes = tuple(self._new(v) for v in eqn.outvars)
    jaxprs = tuple(inner) if name in LOOPS else ()
    self.operations.append(Operation(name, reads, writes, jaxprs))
    return writes

  def _live(self) -> list[Operation]:
    """The operations on which a result depends, and which results these are."""
    bits = [0] * len(self.sizes)
    for i, value in enumerate(self.outputs):
      if value is not None:
        bits[value] |= 1 << i
    live = []
    for operation in reversed(self.operations):
      leads = functools.reduce(int.__or__, (bits[v] for v in operation.writes))
      for value in unique(operation.reads):
        bits[value] |= leads
      if leads:
        live.append(dataclasses.replace(operation, leads=leads))
    return live[::-1]


def without_dead_code(jaxpr: Any) -> Any:
  """The part of a jaxpr on which a result depends, also within scans.

  Much of what the gradient of a scan could read is never read, and the
  compiler does not compute it.
  """
  inner = opened(jaxpr)
  wanted = [True] * len(inner.outvars)
  return partial_eval.dce_jaxpr(inner, wanted, instantiate=True)[0]


def opened(jaxpr: Any) -> Any:
  """The jaxpr without the constants that a ClosedJaxpr has."""
  return getattr(jaxpr, 'jaxpr', jaxpr)


def unique(values: Iterable[int | None]) -> tuple[int, ...]:
  """The values that are not literals, each once."""
  return tuple(dict.fromkeys(v for v in values if v is not None))


def nbytes(x: Any) -> int:
  """The bytes of an array, which may be abstract."""
  return math.prod(x.shape) * x.dtype.itemsize


def _is_view(eqn: Any) -> bool:
  """Also the transpose of a matrix: a product reads it in another order."""
  turned = eqn.primitive.name == 'transpose' and eqn.outvars[0].aval.ndim == 2
  return turned or eqn.primitive.name in VIEWS
