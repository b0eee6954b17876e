"""How an array is sharded by its shape, and which path has which tactic."""

import math
from collections.abc import Callable, Iterable, Sequence

from jax.sharding import PartitionSpec

from flowdistill.training.mesh import FSDP, TENSOR, AnyMesh, Shape

SMALL = 1024  # elements; a smaller array is not worth a collective
Rules = Sequence[tuple[str, str]]


def replicate(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """Replicated on every device."""
  return PartitionSpec()


def fsdp(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """Sharded along `fsdp`, on the longest axis that it divides."""
  return _shard(mesh, shape, [(range(len(shape)), FSDP)])


def column(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """Of a kernel, outputs sharded along `tensor`, inputs along `fsdp`."""
  last = len(shape) - 1
  return _shard(mesh, shape, [([last], TENSOR), ([last - 1], FSDP)])


def row(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """Of a kernel, inputs sharded along `tensor`, outputs along `fsdp`."""
  last = len(shape) - 1
  return _shard(mesh, shape, [([last - 1], TENSOR), ([last], FSDP)])


def _shard(
  mesh: AnyMesh, shape: Shape, wishes: Iterable[tuple[Iterable[int], str]]
) -> PartitionSpec:
  """Each mesh axis on the longest of the given axes that it divides, if any."""
  spec: list[str | None] = [None] * len(shape)
  if math.prod(shape) < SMALL:
    return PartitionSpec()
  for axes, name in wishes:
    fits = [a for a in axes if a >= 0 and not shape[a] % mesh.shape[name]]
    if fits and mesh.shape[name] > 1:
      spec[max(fits, key=lambda axis: (shape[axis], axis))] = name
  return PartitionSpec(*spec)


TACTICS: dict[str, Callable[[Shape, AnyMesh], PartitionSpec]] = {
  'replicate': replicate,
  'fsdp': fsdp,
  'column': column,
  'row': row,
}
RULES = (
  ('*.qkv.kernel', 'column'),
  ('*.project.*.kernel', 'column'),  # query, key and value
  ('*.up.kernel', 'column'),
  ('*.out.kernel', 'row'),
  ('*.down.kernel', 'row'),
  ('*', 'fsdp'),
)
