"""Predicts the collectives of a train step, from abstract arrays.

They are counted in bytes of the arrays that they reduce or gather, along each
mesh axis:

- `data`, `fsdp`: gradients, which every device has of its own rows, are summed.
  Those of arrays sharded along `fsdp` are reduce-scattered along it, and their
  shards all-reduced along `data`.
- `fsdp`: a sharded array is all-gathered where it is read: once in a step, for
  the compiler keeps it, and again for every loop that reads it.
- `tensor`: see `partition.py`.

Scalars and the random key are not counted.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from flowdistill.planning.partition import ALL_GATHER, ALL_REDUCE, sent
from flowdistill.planning.program import LOOPS, Program, nbytes
from flowdistill.training.mesh import DATA, FSDP, TENSOR
from flowdistill.training.sharding import Layout

REDUCE_SCATTER = 'reduce-scatter'
ROUNDS = {ALL_REDUCE: 2, ALL_GATHER: 1, REDUCE_SCATTER: 1}


@dataclasses.dataclass(frozen=True)
class Transfer:
  """All collectives of one kind in a step, along one mesh axis.

  Attributes:
    collective: its name.
    what: 'gradients', 'parameters' or 'activations'.
    axis: of the mesh.
    size: number of devices along it.
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
    """Bytes that a device sends, and that it receives, on a ring or a tree."""
    return self.between(1)

  def between(self, near: int) -> float:
    """Those that leave a group of `near` devices, which is reduced first."""
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
    state: of training, abstractly.
    frozen: role -> weights, abstractly.
    *rest: one device's part of the batch, and replicated arrays, abstractly.
    learns: the part of the state that gradients are taken of.
    layout: of state, frozen weights and gradients.
  """
  bytes_of: Counter[tuple[str, str, str]] = Counter()
  for array in _arrays(learns, layout):
    for collective, axis, size in array.summed():
      bytes_of[collective, 'gradients', axis] += size
  sizes = layout.mesh.shape
  if sizes[FSDP] > 1 or sizes[TENSOR] > 1:
    jaxpr = jax.make_jaxpr(f)(state, frozen, *rest)
    arrays = [a for tree in (state, frozen) for a in _arrays(tree, layout)]
    bytes_of[ALL_GATHER, 'parameters', FSDP] = _gathered(Program(jaxpr), arrays)
    axes = layout.axes((state, frozen), TENSOR)
    axes += [None] * len(jax.tree.leaves(rest))
    for collective, size in sent(jaxpr, axes, sizes[TENSOR]).items():
      bytes_of[collective, 'activations', TENSOR] += size
  return [
    Transfer(collective, what, axis, sizes[axis], size)
    for (collective, what, axis), size in bytes_of.items()
    if size and sizes[axis] > 1
  ]


def gathered_bytes(
  f: Callable[..., Any], params: Any, *rest: Any, layout: Layout
) -> int:
  """Bytes of all-gathered arrays that a device holds for a part of a step.

  These are all arrays that are read, for gradients read them again. Of an array
  that a loop reads slice by slice, one slice counts; of one that is cast first,
  the result of the cast.

  Args:
    f: f(params, *rest), not jitted.
    params: abstractly.
    *rest: abstractly.
    layout: of the parameters.
  """
  arrays = _arrays(params, layout)
  if not any(a.scattered for a in arrays):
    return 0
  program = Program(jax.make_jaxpr(f)(params, *rest))
  pairs = zip(program.inputs, arrays, strict=False)
  sizes = (
    _at_once(program, v) * nbytes(a.gathered) for v, a in pairs if a.scattered
  )
  return int(sum(sizes))


def _at_once(program: Program, value: int) -> float:
  """The largest share of a value that is read at the same time."""
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
  """Abstractly: all-gathered along `fsdp`, and the shard of a device."""

  gathered: Any
  shard: Any

  @property
  def scattered(self) -> bool:
    return self.shard.shape != self.gathered.shape

  def summed(self) -> Iterator[tuple[str, str, int]]:
    """(collective, mesh axis, bytes) that sum its gradient."""
    first = REDUCE_SCATTER if self.scattered else ALL_REDUCE
    yield first, FSDP, nbytes(self.gathered)
    yield ALL_REDUCE, DATA, nbytes(self.shard)


def _arrays(tree: Any, layout: Layout) -> list[_Array]:
  trees = layout.shards(tree, gathered=True), layout.shards(tree)
  pairs = zip(*map(jax.tree.leaves, trees), strict=True)
  return [_Array(gathered, shard) for gathered, shard in pairs]


def _gathered(program: Program, arrays: list[_Array]) -> int:
  """Bytes that are all-gathered in a step."""
  total = 0.0
  for value, array in zip(program.inputs, arrays, strict=False):
    if array.scattered:
      total += _reads(program, value) * nbytes(array.gathered)
  return int(total)


def _reads(program: Program, value: int | None) -> float:
  """How often a value is gathered: once, and once for every loop that reads it.

  If it is only cast to a smaller dtype, that fraction counts.
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
