"""Predicts what a train step sends, and puts together, from shapes alone.

Counted in bytes of the arrays that a collective is about, along each mesh axis:

- `data`, `fsdp`: gradients, which every device has of its own rows, are summed.
  What `fsdp` cuts is reduced to its pieces along it, and these along `data`.
- `fsdp`: what is cut is put together where it is read: once in a step, for the
  compiler keeps it, but once more for every loop that reads it.
- `tensor`: see `partition.py`.

Scalars and the random key are left out.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from flowdistill.planning.partition import ALL_GATHER, ALL_REDUCE, sent
from flowdistill.planning.program import LOOPS, Program, nbytes
from flowdistill.training.sharding import DATA, FSDP, TENSOR, Layout

REDUCE_SCATTER = 'reduce-scatter'
ROUNDS = {ALL_REDUCE: 2, ALL_GATHER: 1, REDUCE_SCATTER: 1}


@dataclasses.dataclass(frozen=True)
class Transfer:
  """All collectives of one kind in a step, along one mesh axis.

  Attributes:
    collective: its name.
    what: it is of, 'gradients', 'parameters' or 'activations'.
    axis: of the mesh.
    size: devices along it.
    nbytes: of the arrays on one device, before they are scattered or after
      they are gathered.
  """

  collective: str
  what: str
  axis: str
  size: int
  nbytes: int

  @property
  def moved(self) -> float:
    """Bytes that a device sends, and receives, on a ring or a tree."""
    return self.between(1)

  def between(self, near: int) -> float:
    """Those that leave a group of `near` devices, in which it is done first."""
    share = (self.size - near) / self.size
    return ROUNDS[self.collective] * share / near * self.nbytes


def traffic(
  f: Callable[..., Any],
  state: Any,
  frozen: Mapping[str, Any],
  *rest: Any,
  learns: Any,
  layout: Layout,
) -> list[Transfer]:
  """The transfers of a step with loss and gradient f(state, frozen, *rest).

  Args:
    f: a function that is not jitted.
    state: of training, by shapes.
    frozen: role -> weights, by shapes.
    *rest: what one device has of the batch, and whole arrays, by shapes.
    learns: the part of the state that gradients are of.
    layout: of state, frozen weights and gradients.
  """
  jaxpr = jax.make_jaxpr(f)(state, frozen, *rest)
  bytes_of: Counter[tuple[str, str, str]] = Counter()
  for array in _arrays(learns, layout):
    for collective, axis, size in array.summed():
      bytes_of[collective, 'gradients', axis] += size
  read = [a for tree in (state, frozen) for a in _arrays(tree, layout)]
  bytes_of[ALL_GATHER, 'parameters', FSDP] = _gathered(Program(jaxpr), read)
  cuts = layout.axes((state, frozen), TENSOR)
  cuts += [None] * len(jax.tree.leaves(rest))
  parts = layout.mesh.shape[TENSOR]
  for collective, size in sent(jaxpr, cuts, parts).items():
    bytes_of[collective, 'activations', TENSOR] += size
  sizes = layout.mesh.shape
  return [
    Transfer(collective, what, axis, sizes[axis], size)
    for (collective, what, axis), size in bytes_of.items()
    if size and sizes[axis] > 1
  ]


def put_together(
  f: Callable[..., Any], params: Any, *rest: Any, layout: Layout
) -> int:
  """Bytes that a device has for a while of what `fsdp` cuts.

  All that is read, for gradients read it again; but of an array that a loop
  reads slice by slice only a slice, and of one that is cast first that.

  Args:
    f: f(params, *rest), not jitted.
    params: by shapes.
    *rest: by shapes.
    layout: of the parameters.
  """
  program = Program(jax.make_jaxpr(f)(params, *rest))
  pairs = zip(program.inputs, _arrays(params, layout), strict=False)
  found = (
    _at_once(program, v) * nbytes(a.gathered) for v, a in pairs if a.scattered
  )
  return int(sum(found))


def _at_once(program: Program, value: int) -> float:
  """The share of a value that is read at a moment."""
  shares = [0.0]
  for reader in program.readers.get(value, []):
    if reader.name == 'scan':
      body = Program(reader.inner[0])
      places = [i for i, v in enumerate(reader.reads) if v == value]
      shares += [
        body.sizes[body.inputs[i]] / program.sizes[value] for i in places
      ]
    elif reader.name == 'convert_element_type':
      shares.append(program.sizes[reader.writes[0]] / program.sizes[value])
    else:
      shares.append(1.0)
  return max(shares)


@dataclasses.dataclass(frozen=True)
class _Array:
  """By shapes: put together along `fsdp`, and on a device."""

  gathered: Any
  held: Any

  @property
  def scattered(self) -> bool:
    return self.held.shape != self.gathered.shape

  def summed(self) -> Iterator[tuple[str, str, int]]:
    """How its gradient is."""
    first = REDUCE_SCATTER if self.scattered else ALL_REDUCE
    yield first, FSDP, nbytes(self.gathered)
    yield ALL_REDUCE, DATA, nbytes(self.held)


def _arrays(tree: Any, layout: Layout) -> list[_Array]:
  trees = layout.held(tree, gathered=True), layout.held(tree)
  return [
    _Array(*found) for found in zip(*map(jax.tree.leaves, trees), strict=True)
  ]


def _gathered(program: Program, arrays: list[_Array]) -> int:
  """Bytes of what is put together."""
  total = 0.0
  for value, array in zip(program.inputs, arrays, strict=False):
    if array.scattered:
      total += _reads(program, value) * nbytes(array.gathered)
  return int(total)


def _reads(program: Program, value: int | None) -> float:
  """How often a value is read: once, and once by every loop.

  Where it is only cast to a smaller dtype, it is read as that.
  """
  once, looped = 0.0, 0.0
  for reader in program.readers.get(value, []) if value is not None else []:
    if reader.name == 'scan':
      body = Program(reader.inner[0])
      places = [i for i, v in enumerate(reader.reads) if v == value]
      looped += max(_reads(body, body.inputs[i]) for i in places)
    elif reader.name in LOOPS:
      looped += 1
    elif reader.name == 'convert_element_type':
      size = program.sizes[reader.writes[0]] / program.sizes[value or 0]
      once = max(once, size)
    else:
      once = 1
  return once + looped
