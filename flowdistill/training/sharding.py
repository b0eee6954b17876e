"""The sharding of arrays on a mesh, which no other room knows.

Rows of a batch are sharded along `data` and `fsdp`. Parameters, EMA weights and
the optimiser's state are replicated along `data`, and sharded along `fsdp` and
`tensor` by rules: (pattern of the path, tactic), of which the first that
matches applies (`tactics.py`). Low-rank factors are sharded as the kernel of
their layer, A along its inputs and B along its outputs. The compiler shards all
intermediate values, and inserts the collectives.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from flowdistill.training.mesh import (
  AXES,
  FSDP,
  ROWS,
  AnyMesh,
  Shape,
  rows_per_device,
)
from flowdistill.training.tactics import RULES, SMALL, TACTICS, Rules

HOST = 'pinned_host'  # the memory of a host that its devices can read
KERNEL, RANK = 'kernel', {'lora_a': -1, 'lora_b': -2}
"""Low-rank factors A [..., n_in, r], B [..., r, n_out], which lie beside the
kernel of their layer; and the axis of each that has the rank."""
WHOLE = 2**31 - 1  # a length that no mesh axis divides


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh, and the rules by which arrays are sharded on it.

  Attributes:
    mesh: of all devices, or an abstract one to plan for devices elsewhere.
    rules: (pattern, tactic); the first whose pattern matches a path applies.
    memory: the kind of memory that arrays of the rules are in; None is that of
      the devices.
  """

  mesh: AnyMesh
  rules: Rules = RULES
  memory: str | None = None

  def on_host(self) -> 'Layout':
    """The same, in the memory of the hosts.

    Raises:
      ValueError: if these devices cannot read it.
    """
    kinds = [memory.kind for memory in jax.devices()[0].addressable_memories()]
    if HOST not in kinds:
      raise ValueError(
        f'this backend has no memory of the kind {HOST!r}, only '
        f'{", ".join(map(repr, kinds))}'
      )
    return dataclasses.replace(self, memory=HOST)

  @property
  def replicated(self) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def rows(self) -> NamedSharding:
    """The first axis sharded along `data` and `fsdp`."""
    return NamedSharding(self.mesh, PartitionSpec(ROWS))

  def constrain(self, x: jax.Array) -> jax.Array:
    """Shards an activation as the batch, if its rows can be divided so."""
    parts = math.prod(self.mesh.shape[name] for name in ROWS)
    if parts == 1 or len(x) % parts:
      return x
    return jax.lax.with_sharding_constraint(x, self.rows)

  def tactic(self, path: str) -> str:
    """The tactic for an array; `replicate` if no rule matches."""
    matching = (t for p, t in self.rules if fnmatch.fnmatchcase(path, p))
    return next(matching, 'replicate')

  def shardings(self, tree: Any) -> Any:
    """The sharding of every array of a tree, by its path and shape."""

    def place(path: Any, leaf: Any) -> NamedSharding:
      spec = self._spec(path_name(path), leaf.shape)
      return NamedSharding(self.mesh, spec, memory_kind=self.memory)

    return jax.tree.map_with_path(place, tree)

  def _spec(self, path: str, shape: Shape) -> PartitionSpec:
    """How an array is sharded; of low-rank factors, the rank is not."""
    layer, _, name = path.rpartition('.')
    if name not in RANK:
      return TACTICS[self.tactic(path)](shape, self.mesh)
    if math.prod(shape) < SMALL:
      return PartitionSpec()
    kernel = [*shape]
    kernel[RANK[name]] = WHOLE
    tactic = TACTICS[self.tactic(f'{layer}.{KERNEL}')]
    return tactic(tuple(kernel), self.mesh)

  def abstract(self, tree: Any) -> Any:
    """The tree abstractly, with the shardings of the rules."""
    return jax.tree.map(
      lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      tree,
      self.shardings(tree),
    )

  def shards(self, tree: Any, *, gathered: bool = False) -> Any:
    """The part of a tree that one device holds, abstractly.

    Args:
      tree: of arrays, abstractly.
      gathered: all-gathered along `fsdp`, as a layer reads it.
    """

    def shard(leaf: Any, place: NamedSharding) -> jax.ShapeDtypeStruct:
      if gathered:
        axes = (None if axis == FSDP else axis for axis in place.spec)
        place = NamedSharding(self.mesh, PartitionSpec(*axes))
      return jax.ShapeDtypeStruct(place.shard_shape(leaf.shape), leaf.dtype)

    return jax.tree.map(shard, tree, self.shardings(tree))

  def axes(self, tree: Any, name: str) -> list[int | None]:
    """The axis of every array that a mesh axis shards, None if it does not."""
    specs = [place.spec for place in jax.tree.leaves(self.shardings(tree))]
    return [spec.index(name) if name in spec else None for spec in specs]

  def mesh_axes(self, tree: Any) -> list[tuple[str, Any, str]]:
    """(path, array, 'fsdp, tensor') for every array of a tree."""
    arrays = jax.tree.leaves_with_path(tree)
    places = jax.tree.leaves(self.shardings(tree))
    return [
      (path_name(path), array, ', '.join(axis for axis in place.spec if axis))
      for (path, array), place in zip(arrays, places, strict=True)
    ]

  def gather(self, tree: Any) -> Any:
    """The tree all-gathered on every device; all hosts must call this."""
    return jax.jit(lambda x: x, out_shardings=self.replicated)(tree)

  def any(self, here: bool) -> jax.Array:
    """Whether any host passes True; does not wait for the result."""
    local = np.full(jax.local_device_count(), here)
    sharding = NamedSharding(self.mesh, PartitionSpec(AXES))
    return _any(jax.make_array_from_process_local_data(sharding, local))

  def broadcast(self, number: float) -> float:
    """The first host's number, on all hosts."""
    return float(multihost_utils.broadcast_one_to_all(np.float64(number)))

  def broadcast_bytes(self, data: np.ndarray) -> np.ndarray:
    """The first host's bytes [n], of which all hosts must pass as many."""
    return np.asarray(multihost_utils.broadcast_one_to_all(data), np.uint8)

  def round_up(self, batch_size: int) -> int:
    """The least batch size from this on that divides over `data` and `fsdp`."""
    parts = math.prod(self.mesh.shape[name] for name in ROWS)
    return -(-batch_size // parts) * parts

  def spread(self, tree: Any) -> Any:
    """Arrays [b, ...], whole on every process, sharded along their rows."""

    def put(rows: Any) -> jax.Array:
      whole = np.asarray(rows, jax.dtypes.canonicalize_dtype(rows.dtype))
      return jax.make_array_from_callback(
        whole.shape, self.rows, lambda index: whole[index]
      )

    return jax.tree.map(put, tree)

  def rows_from(self, n: int, make: Callable[[slice], np.ndarray]) -> jax.Array:
    """An array [n, ...] sharded along its rows; each host makes its own."""
    places: Any = self.rows.addressable_devices_indices_map((n,))
    parts = {i.indices(n): make(i) for i, *_ in places.values()}
    first, *_ = parts.values()
    shape = n, *first.shape[1:]

    def put(index: Any) -> np.ndarray:
      return parts[index[0].indices(n)]

    return jax.make_array_from_callback(shape, self.rows, put)

  def divided(
    self, f: Callable[[np.ndarray], Any], x: np.ndarray
  ) -> np.ndarray:
    """f(x [n, ...]), row by row, of which each host computes its own rows.

    Args:
      f: [m, ...] -> [m, ...], on the devices of a host alone.
      x: whole on every process.
    """
    if self.rows.is_fully_addressable:
      return np.asarray(f(x))
    n = self.round_up(len(x))
    index = np.minimum(np.arange(n), len(x) - 1)
    places: Any = self.rows.addressable_devices_indices_map((n,))
    spans = sorted({i.indices(n)[:2] for i, *_ in places.values()})
    own = np.asarray(f(x[np.concatenate([index[a:b] for a, b in spans])]))
    ends = np.cumsum([b - a for a, b in spans])[:-1]
    made = dict(zip(spans, np.split(own, ends), strict=True))
    rows = self.rows_from(n, lambda part: made[part.indices(n)[:2]])
    return self.collect(rows)[: len(x)]

  def collect(self, array: jax.Array) -> np.ndarray:
    """The whole array on every process; collective if the mesh spans them."""
    if array.is_fully_addressable:
      return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)

  def check_batch_size(self, batch_size: int) -> None:
    """Refuses a batch that cannot be sharded along `data` and `fsdp`.

    Raises:
      ValueError: see `rows_per_device` and `share`.
    """
    rows_per_device(self.mesh, batch_size)
    self.share(batch_size)

  def share(self, batch_size: int) -> tuple[int, int]:
    """(p, P): this host loads part p of the P equal parts of every batch.

    Raises:
      ValueError: if the rows of its devices are not such a part.
    """
    index = self.rows.addressable_devices_indices_map((batch_size,)).values()
    spans = {i[0].indices(batch_size)[:2] for i in index if i is not None}
    first, last = min(s for s, _ in spans), max(e for _, e in spans)
    size = last - first
    if sum(e - s for s, e in spans) != size or first % size:
      raise ValueError(
        f'the rows of this host, {sorted(spans)} of {batch_size}, must be one '
        'part of the batch: choose data and fsdp such that hosts divide them'
      )
    return first // size, batch_size // size

  def batch(self, local: Mapping[str, Any]) -> dict[str, Any]:
    """Assembles a batch of all hosts from the rows of each.

    Args:
      local: name -> NumPy array [b / P, ...], or a dict of them.

    Returns:
      the same tree of `jax.Array` [b, ...], sharded over the devices.
    """
    return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(self.rows, x),
      dict(local),
    )


@jax.jit
def _any(flags: jax.Array) -> jax.Array:
  return jnp.any(flags)


def path_name(path: Any) -> str:
  """'roles.student.params.blocks.0.qkv.kernel'."""
  name = jax.tree_util.keystr(path, simple=True, separator='.')
  # An nnx.Variable holds its array under this key.
  return name.removesuffix('.value')
