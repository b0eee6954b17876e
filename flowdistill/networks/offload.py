"""Parameters in the memory of the host, fetched where a network reads them.

Those of a stack of layers are fetched layer by layer in the scan, so that the
device has one layer of them at a time; all others when the network is called.

Source: the host offloading of JAX,
https://docs.jax.dev/en/latest/notebooks/host-offloading.html.
"""

from typing import Any

import jax

HOST, DEVICE = jax.memory.Space.Host, jax.memory.Space.Device
STACKED = 'each'  # the name of a stack's parameters


def fetched(tree: Any) -> Any:
  """The tree in the memory of the devices."""
  return jax.tree.map(_fetched, tree)


def fetched_but_stacks(params: Any) -> Any:
  """Parameters in the memory of the devices, but for those of stacks."""
  return jax.tree.map_with_path(
    lambda path, x: x if is_stacked(path) else _fetched(x), params
  )


def is_stacked(path: Any) -> bool:
  """Whether the path of a parameter is that of one of a stack."""
  return any(getattr(key, 'key', None) == STACKED for key in path)


def _fetched(x: Any) -> Any:
  return jax.device_put(x, DEVICE) if is_on_host(x) else x


def is_on_host(x: Any) -> bool:
  """Whether an array, or a traced one, is in the memory of the host."""
  return getattr(jax.typeof(x), 'memory_space', DEVICE) == HOST
