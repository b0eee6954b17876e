"""The mesh of devices and the sharding of arrays. Nothing else knows the mesh.

It has three axes. Rows of a batch are sharded along `data` and `fsdp`.
Parameters, EMA weights and the optimiser's state are replicated along `data`,
and sharded along `fsdp` and `tensor` by rules: (pattern of the path, tactic),
of which the first that matches applies. Low-rank factors are sharded as the
kernel of their layer, A along its inputs and B along its outputs. The compiler
shards all intermediate values, and inserts the collectives.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import (
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
)

AXES = DATA, FSDP, TENSOR = 'data', 'fsdp', 'tensor'
ROWS = (DATA, FSDP)
SPLIT = {'allow_split_physical_axes': True}  # of a torus, where necessary
HOST = 'pinned_host'  # the memory of a host that its devices can read
SMALL = 1024  # elements; a smaller array is not worth a collective
Shape = tuple[int, ...]
Rules = Sequence[tuple[str, str]]
AnyMesh = Mesh | AbstractMesh


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


def rows_per_device(mesh: AnyMesh, batch_size: int) -> int:
  """The number of rows of a batch that one device has.

  Raises:
    ValueError: if `data` times `fsdp` does not divide the batch size; it names
      the nearest sizes that are possible.
  """
  parts = math.prod(mesh.shape[name] for name in ROWS)
  if batch_size > 0 and batch_size % parts == 0:
    return batch_size // parts
  below = max(0, batch_size) // parts * parts
  choices = [str(n) for n in (below, below + parts) if n > 0]
  raise ValueError(
    f'batch_size = {batch_size} must be a multiple of {parts} (data times '
    f'fsdp), such as {" or ".join(choices)}'
  )


def path_name(path: Any) -> str:
  """'roles.student.params.blocks.0.qkv.kernel'."""
  name = jax.tree_util.keystr(path, simple=True, separator='.')
  # An nnx.Variable holds its array under this key.
  return name.removesuffix('.value')


def make_mesh(
  axes: Mapping[str, int] | None = None,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh `data` x `fsdp` x `tensor`, by default of all devices of all hosts.

  The axes are Auto (the compiler shards intermediate values), because Flax's
  Embed fails with explicit ones, which are JAX's default.

  Args:
    axes: sizes by name, of which one may be -1: as large as the others allow.
      By default all devices are along `data`.
    devices: of the mesh.

  Raises:
    ValueError: if the product of the sizes is not the number of devices; also
      see `arrange`.
  """
  devices = jax.devices() if devices is None else devices
  shape = mesh_shape(axes or {DATA: -1}, len(devices))
  types = (AxisType.Auto,) * len(AXES)
  return Mesh(arrange(devices, shape), AXES, axis_types=types)


def arrange(devices: Sequence[Any], shape: Shape) -> np.ndarray:
  """The devices as an array [data, fsdp, tensor].

  A slice is a set of devices with fast links: a slice of TPUs, or the GPUs of a
  host. Several slices are connected along `data` as far as possible, the axis
  that needs the least bandwidth between them, and for the rest along `fsdp`.
  `tensor` stays within a slice.

  Raises:
    ValueError: if `data` and `fsdp` cannot connect the slices.
  """
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if slices == 1:
    return mesh_utils.create_device_mesh(shape, devices, **SPLIT)
  data, fsdp, tensor = shape
  outer = math.gcd(data, slices)
  inner = slices // outer
  if fsdp % inner:
    raise ValueError(
      f'data = {data} times fsdp = {fsdp} must span the {slices} slices of '
      f'{len(devices) // slices} devices: data must be a multiple of {slices}, '
      f'or fsdp of the {inner} that data does not span'
    )
  within = (data // outer, fsdp // inner, tensor)
  between = (outer, inner, 1)
  return mesh_utils.create_hybrid_device_mesh(within, between, devices, **SPLIT)


def abstract_mesh(axes: Mapping[str, int], devices: int) -> AbstractMesh:
  """A mesh of this number of devices, none of which need exist here.

  Raises:
    ValueError: if the product of the sizes is another number.
  """
  return AbstractMesh(mesh_shape(axes, devices), AXES)


def mesh_shape(axes: Mapping[str, int], devices: int) -> Shape:
  """The sizes (data, fsdp, tensor) of a mesh of this number of devices.

  Raises:
    ValueError: if their product is another number.
  """
  sizes = [axes.get(name, 1) for name in AXES]
  known = math.prod(size for size in sizes if size > 0)
  if -1 in sizes and devices % known == 0:
    return tuple(devices // known if size == -1 else size for size in sizes)
  if -1 not in sizes and known == devices:
    return tuple(sizes)
  given = ' x '.join(f'{n} = {s}' for n, s in zip(AXES, sizes, strict=True))
  raise ValueError(
    f'mesh: {given} must be {devices} device(s); -1 is as many as the others '
    'allow'
  )
