"""The mesh of devices, and how arrays lie on it. Nothing else knows it.

Data parallelism: one axis, `data`, over all devices of all hosts. Parameters
are the same on every device, batches are cut into rows.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
  """All devices of all hosts in one row, the axis `data`.

  The axis is Auto (the compiler places arrays): flax's Embed fails under the
  explicit axes that are JAX's default.
  """
  return jax.make_mesh(
    (jax.device_count(),), ('data',), axis_types=(AxisType.Auto,)
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """The same array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows (the first axis) spread over the devices."""
  return NamedSharding(mesh, PartitionSpec('data'))


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Puts a tree of arrays on every device; all hosts hold equal ones.

  What already lies there is not copied, so it shares its buffer with `tree`.
  """
  return jax.device_put(tree, replicated(mesh))


def global_batch(mesh: Mesh, local: Mapping[str, Any]) -> dict[str, Any]:
  """Makes this host's rows part of a batch over all hosts.

  Args:
    mesh: of all devices.
    local: name -> numpy array [b / hosts, ...], or a dict of them.

  Returns:
    the same tree of `jax.Array` [b, ...], spread over the devices.
  """
  sharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), dict(local)
  )


def check_batch_size(batch_size: int, devices: int, processes: int) -> None:
  """Refuses a batch that does not divide over all devices and hosts.

  Raises:
    ValueError: it names the nearest sizes that would do.
  """
  unit = math.lcm(devices, processes)
  if batch_size > 0 and batch_size % unit == 0:
    return
  below = max(0, batch_size) // unit * unit
  choices = [str(n) for n in (below, below + unit) if n > 0]
  raise ValueError(
    f'batch_size {batch_size} does not divide over {devices} device(s) on '
    f'{processes} host(s): it is a multiple of {unit}, such as '
    f'{" or ".join(choices)}'
  )
