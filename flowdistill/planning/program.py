"""A jaxpr as one list of operations, for whoever asks what lives how long."""

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
    inner: the jaxprs of a loop's body, or of the branches of a cond.
    leads: the results that it leads to, as bits.
  """

  name: str
  reads: Values
  writes: tuple[int, ...]
  inner: tuple[Any, ...]
  leads: int = 0


class Program:
  """All operations of a jaxpr that lead to a result; calls are opened.

  Attributes:
    size: variable -> its bytes, of those within loops too.
    sizes: bytes of every value. A view of a value is that value.
    inputs, outputs: values.
    operations: in order.
  """

  def __init__(self, jaxpr: Any, size: Size | None = None):
    self.size: Size = size or (lambda v: nbytes(v.aval))
    self.sizes: list[int] = []
    self.operations: list[Operation] = []
    self.inputs = [self._new(v) for v in jaxpr.invars]
    self.outputs = self._run(jaxpr, self.inputs)
    self.operations = self._alive()

  @functools.cached_property
  def readers(self) -> dict[int, list[Operation]]:
    """Value -> the operations that read it."""
    found: dict[int, list[Operation]] = {}
    for operation in self.operations:
      for value in unique(operation.reads):
        found.setdefault(value, []).append(operation)
    return found

  @functools.cached_property
  def buffers(self) -> dict[int, tuple[int, ...]]:
    """Value -> the written values that it is computed from, itself if it is."""
    found: dict[int, tuple[int, ...]] = {}
    for operation in self.operations:
      below = [found.get(v, ()) for v in unique(operation.reads)]
      for value in operation.writes:
        written = self._is_written(operation, value)
        found[value] = (value,) if written else unique(sum(below, ()))
    return found

  def _is_written(self, operation: Operation, value: int) -> bool:
    """Whether it has memory of its own, and is not computed by its reader."""
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
      made = self._equation(eqn, read(eqn.invars))
      known |= dict(zip(eqn.outvars, made, strict=True))
    return read(jaxpr.outvars)

  def _equation(self, eqn: Any, reads: Values) -> Values:
    name, inner = eqn.primitive.name, bodies(eqn.params.values())
    if name in CALLS and len(inner) == 1:
      return self._run(inner[0], reads)
    if _is_view(eqn):
      return reads
    writes = tuple(self._new(v) for v in eqn.outvars)
    kept = tuple(inner) if name in LOOPS else ()
    self.operations.append(Operation(name, reads, writes, kept))
    return writes

  def _alive(self) -> list[Operation]:
    """The operations that lead to a result, and to which."""
    bits = [0] * len(self.sizes)
    for i, value in enumerate(self.outputs):
      if value is not None:
        bits[value] |= 1 << i
    found = []
    for operation in reversed(self.operations):
      leads = functools.reduce(int.__or__, (bits[v] for v in operation.writes))
      for value in unique(operation.reads):
        bits[value] |= leads
      if leads:
        found.append(dataclasses.replace(operation, leads=leads))
    return found[::-1]


def alive(jaxpr: Any) -> Any:
  """What of a jaxpr leads to a result, also within scans.

  Much of what the gradient of a scan could read is never read, and the
  compiler does not make it.
  """
  inner = opened(jaxpr)
  wanted = [True] * len(inner.outvars)
  return partial_eval.dce_jaxpr(inner, wanted, instantiate=True)[0]


def opened(jaxpr: Any) -> Any:
  """The jaxpr itself, of one that is closed over its constants."""
  return getattr(jaxpr, 'jaxpr', jaxpr)


def unique(values: Iterable[int | None]) -> tuple[int, ...]:
  """Those that are no literal, each once."""
  return tuple(dict.fromkeys(v for v in values if v is not None))


def nbytes(x: Any) -> int:
  """The bytes of an array that is known by shape and dtype."""
  return math.prod(x.shape) * x.dtype.itemsize


def _is_view(eqn: Any) -> bool:
  """The transpose of a matrix is another way to read it, for a product."""
  turned = eqn.primitive.name == 'transpose' and eqn.outvars[0].aval.ndim == 2
  return turned or eqn.primitive.name in VIEWS
