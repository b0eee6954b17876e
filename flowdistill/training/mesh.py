"""The mesh of devices, of three axes: `data`, `fsdp` and `tensor`.

Rows of a batch are sharded along `data` and `fsdp`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

AXES = DATA, FSDP, TENSOR = 'data', 'fsdp', 'tensor'
ROWS = (DATA, FSDP)
SPLIT = {'allow_split_physical_axes': True}  # of a torus, where necessary
Shape = tuple[int, ...]
AnyMesh = Mesh | AbstractMesh


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
