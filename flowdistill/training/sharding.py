"""The mesh of devices, and how arrays lie on it. Nothing else knows it.

Three axes. Rows of a batch are spread over `data` and `fsdp`. Parameters,
averages and the optimiser's state are the same along `data`, and cut along
`fsdp` and `tensor` as rules say: (pattern of the path, tactic), the first that
matches. The compiler places all that lies in between, and its collectives.
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
ANYHOW = {'allow_split_physical_axes': True}  # of a torus, if need be
SMALL = 1024  # numbers; a smaller array is not worth a collective
Shape = tuple[int, ...]
Rules = Sequence[tuple[str, str]]
AnyMesh = Mesh | AbstractMesh


def replicate(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """The same on every device."""
  return PartitionSpec()


def fsdp(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """Cut along its longest axis that `fsdp` divides."""
  return _cut(mesh, shape, [(range(len(shape)), FSDP)])


def column(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """What a product makes is cut along `tensor`, what goes in along `fsdp`."""
  last = len(shape) - 1
  return _cut(mesh, shape, [([last], TENSOR), ([last - 1], FSDP)])


def row(shape: Shape, mesh: AnyMesh) -> PartitionSpec:
  """What goes into a product is cut along `tensor`, what it makes `fsdp`."""
  last = len(shape) - 1
  return _cut(mesh, shape, [([last - 1], TENSOR), ([last], FSDP)])


def _cut(
  mesh: AnyMesh, shape: Shape, wishes: Iterable[tuple[Iterable[int], str]]
) -> PartitionSpec:
  """Each mesh axis on the longest of some axes that it divides, if any."""
  cut: list[str | None] = [None] * len(shape)
  if math.prod(shape) < SMALL:
    return PartitionSpec()
  for axes, name in wishes:
    fits = [a for a in axes if a >= 0 and not shape[a] % mesh.shape[name]]
    if fits and mesh.shape[name] > 1:
      cut[max(fits, key=lambda axis: (shape[axis], axis))] = name
  return PartitionSpec(*cut)


TACTICS: dict[str, Callable[[Shape, AnyMesh], PartitionSpec]] = {
  'replicate': replicate,
  'fsdp': fsdp,
  'column': column,
  'row': row,
}
RULES = (
  ('*.qkv.kernel', 'column'),
  ('*.up.kernel', 'column'),
  ('*.out.kernel', 'row'),
  ('*.down.kernel', 'row'),
  ('*', 'fsdp'),
)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh, and the rules for what lies on it.

  Attributes:
    mesh: of all devices, or an abstract one to ask what would be cut how.
    rules: (pattern, tactic), the first that matches the path counts.
  """

  mesh: AnyMesh
  rules: Rules = RULES

  @property
  def everywhere(self) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def rows(self) -> NamedSharding:
    """Rows (the first axis) spread over `data` and `fsdp`."""
    return NamedSharding(self.mesh, PartitionSpec(ROWS))

  def hold(self, x: jax.Array) -> jax.Array:
    """Rows of an activation where those of the batch are, if they divide."""
    parts = math.prod(self.mesh.shape[name] for name in ROWS)
    if parts == 1 or len(x) % parts:
      return x
    return jax.lax.with_sharding_constraint(x, self.rows)

  def tactic(self, path: str) -> str:
    """The tactic for an array; `replicate` where no rule matches."""
    found = (t for p, t in self.rules if fnmatch.fnmatchcase(path, p))
    return next(found, 'replicate')

  def shardings(self, tree: Any) -> Any:
    """The sharding of every array of a tree, by its path and shape."""

    def place(path: Any, leaf: Any) -> NamedSharding:
      tactic = TACTICS[self.tactic(path_name(path))]
      return NamedSharding(self.mesh, tactic(leaf.shape, self.mesh))

    return jax.tree.map_with_path(place, tree)

  def placed(self, tree: Any) -> Any:
    """The tree by shapes alone, with the shardings of the rules."""
    return jax.tree.map(
      lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      tree,
      self.shardings(tree),
    )

  def held(self, tree: Any, *, gathered: bool = False) -> Any:
    """What one device holds of a tree, by shapes alone.

    Args:
      tree: by shapes.
      gathered: as a layer reads it, put together again along `fsdp`.
    """

    def cut(leaf: Any, place: NamedSharding) -> jax.ShapeDtypeStruct:
      if gathered:
        axes = (None if axis == FSDP else axis for axis in place.spec)
        place = NamedSharding(self.mesh, PartitionSpec(*axes))
      return jax.ShapeDtypeStruct(place.shard_shape(leaf.shape), leaf.dtype)

    return jax.tree.map(cut, tree, self.shardings(tree))

  def axes(self, tree: Any, name: str) -> list[int | None]:
    """The axis of every array that is cut along a mesh axis, None for none."""
    specs = [place.spec for place in jax.tree.leaves(self.shardings(tree))]
    return [spec.index(name) if name in spec else None for spec in specs]

  def cuts(self, tree: Any) -> list[tuple[str, Any, str]]:
    """(path, array, 'fsdp, tensor') for every array of a tree."""
    arrays = jax.tree.leaves_with_path(tree)
    places = jax.tree.leaves(self.shardings(tree))
    return [
      (path_name(path), array, ', '.join(axis for axis in place.spec if axis))
      for (path, array), place in zip(arrays, places, strict=True)
    ]

  def gather(self, tree: Any) -> Any:
    """Whole arrays on every device; all hosts must ask for it."""
    return jax.jit(lambda x: x, out_shardings=self.everywhere)(tree)

  def any(self, here: bool) -> jax.Array:
    """Whether any host says True, without waiting for the answer."""
    parts = jax.local_device_count()
    flags = NamedSharding(self.mesh, PartitionSpec(AXES))
    said = jax.make_array_from_process_local_data(flags, np.full(parts, here))
    return _any(said)

  def tell(self, number: float) -> float:
    """The first host's number, on all hosts."""
    told = multihost_utils.broadcast_one_to_all(np.float64(number))
    return float(told)

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

  def collect(self, array: jax.Array) -> np.ndarray:
    """The whole array on every process; collective if the mesh spans them."""
    if array.is_fully_addressable:
      return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)

  def check_batch_size(self, batch_size: int) -> None:
    """Refuses a batch that does not divide over `data` and `fsdp`, and hosts.

    Raises:
      ValueError: see `rows_per_device` and `share`.
    """
    rows_per_device(self.mesh, batch_size)
    self.share(batch_size)

  def share(self, batch_size: int) -> tuple[int, int]:
    """(p, P): this host loads the part p of P of every batch.

    Raises:
      ValueError: if the rows of its devices are not one such part.
    """
    index = self.rows.addressable_devices_indices_map((batch_size,)).values()
    spans = {i[0].indices(batch_size)[:2] for i in index if i is not None}
    first, last = min(s for s, _ in spans), max(e for _, e in spans)
    size = last - first
    if sum(e - s for s, e in spans) != size or first % size:
      raise ValueError(
        f'the rows of this host, {sorted(spans)} of {batch_size}, are not one '
        'part of the batch: choose data and fsdp such that hosts divide them'
      )
    return first // size, batch_size // size

  def batch(self, local: Mapping[str, Any]) -> dict[str, Any]:
    """Makes this host's rows part of a batch over all hosts.

    Args:
      local: name -> numpy array [b / P, ...], or a dict of them.

    Returns:
      the same tree of `jax.Array` [b, ...], spread over the devices.
    """
    return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(self.rows, x),
      dict(local),
    )


@jax.jit
def _any(flags: jax.Array) -> jax.Array:
  return jnp.any(flags)


def rows_per_device(mesh: AnyMesh, batch_size: int) -> int:
  """The rows of a batch that one device has.

  Raises:
    ValueError: if `data` times `fsdp` does not divide the batch; it names the
      nearest sizes that would do.
  """
  parts = math.prod(mesh.shape[name] for name in ROWS)
  if batch_size > 0 and batch_size % parts == 0:
    return batch_size // parts
  below = max(0, batch_size) // parts * parts
  choices = [str(n) for n in (below, below + parts) if n > 0]
  raise ValueError(
    f'batch_size {batch_size} does not divide over {parts} part(s), data '
    f'times fsdp: it is a multiple of {parts}, such as '
    f'{" or ".join(choices)}'
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
  """Devices as `data` x `fsdp` x `tensor`, by default all of all hosts.

  The axes are Auto (the compiler places arrays): flax's Embed fails under the
  explicit ones that are JAX's default.

  Args:
    axes: sizes by name; -1 is what the others leave. By default all is `data`.
    devices: that it is made of.

  Raises:
    ValueError: if the sizes do not make up the devices, or see `arrange`.
  """
  devices = jax.devices() if devices is None else devices
  shape = mesh_shape(axes or {DATA: -1}, len(devices))
  types = (AxisType.Auto,) * len(AXES)
  return Mesh(arrange(devices, shape), AXES, axis_types=types)


def arrange(devices: Sequence[Any], shape: Shape) -> np.ndarray:
  """The devices as an array [data, fsdp, tensor].

  A slice is what fast links connect: one of TPUs, or the GPUs of a host. Where
  there are several, `data` goes over them first, the axis that asks least of
  the network between them, and `fsdp` over those that `data` cannot. `tensor`
  never leaves a slice.

  Raises:
    ValueError: if `data` and `fsdp` cannot go over the slices.
  """
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if slices == 1:
    return mesh_utils.create_device_mesh(shape, devices, **ANYHOW)
  data, fsdp, tensor = shape
  outer = math.gcd(data, slices)
  inner = slices // outer
  if fsdp % inner:
    raise ValueError(
      f'data = {data} times fsdp = {fsdp} must go over the {slices} slices '
      f'of {len(devices) // slices} devices: data a multiple of {slices}, or '
      f'fsdp of what it leaves, {inner}'
    )
  within = (data // outer, fsdp // inner, tensor)
  between = (outer, inner, 1)
  return mesh_utils.create_hybrid_device_mesh(
    within, between, devices, **ANYHOW
  )


def abstract_mesh(axes: Mapping[str, int], devices: int) -> AbstractMesh:
  """The mesh that so many devices would make; none of them need be here.

  Raises:
    ValueError: if the sizes do not make up the devices.
  """
  return AbstractMesh(mesh_shape(axes, devices), AXES)


def mesh_shape(axes: Mapping[str, int], devices: int) -> Shape:
  """(data, fsdp, tensor) on so many devices.

  Raises:
    ValueError: if they are another number.
  """
  sizes = [axes.get(name, 1) for name in AXES]
  known = math.prod(size for size in sizes if size > 0)
  if -1 in sizes and devices % known == 0:
    return tuple(devices // known if size == -1 else size for size in sizes)
  if -1 not in sizes and known == devices:
    return tuple(sizes)
  said = ' x '.join(f'{n} = {s}' for n, s in zip(AXES, sizes, strict=True))
  raise ValueError(
    f'mesh: {said} does not make up {devices} device(s); -1 is what the '
    'others leave'
  )
