"""The arrays of a tree by the names that they have in a checkpoint."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.training.sharding import path_name


def by_name(tree: Any) -> dict[str, Any]:
  """Path -> leaf, such as 'params.blocks.0.kernel', in the order of leaves."""
  names, leaves = {}, jax.tree.leaves_with_path(tree)
  for path, leaf in leaves:
    names[path_name(path)] = leaf
  if len(names) != len(leaves):
    raise ValueError('two arrays of the tree have the same path')
  return names


def placed(leaf: Any) -> jax.ShapeDtypeStruct:
  """An array, abstractly, with its sharding or on the first device here."""
  sharding = getattr(leaf, 'sharding', None)
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def first_difference(
  wanted: Mapping[str, Any], stored: Mapping[str, Any], partial: bool
) -> str:
  """'NAME: float32[3] in the checkpoint, float32[2] in the config'.

  Args:
    wanted: name -> array, abstractly.
    stored: those of a checkpoint.
    partial: whether it may have arrays that are not wanted.

  Returns:
    the first array that differs in name, shape or dtype; '' if none does.
  """
  extra = () if partial else (name for name in stored if name not in wanted)
  for name in (*wanted, *extra):
    here, there = _signature(wanted.get(name)), _signature(stored.get(name))
    if here != there:
      return f'{name}: {there} in the checkpoint, {here} in the config'
  return ''


def _signature(array: Any) -> str:
  if array is None:
    return 'missing'
  return f'{array.dtype}[{", ".join(map(str, array.shape))}]'


def is_same(one: Any, other: Any) -> bool:
  """Whether two arrays have the same bytes, in the shards of this host."""
  pairs = zip(_shards(one), _shards(other), strict=True)
  return all(a.tobytes() == b.tobytes() for a, b in pairs)


def _shards(array: Any) -> list[np.ndarray]:
  shards = getattr(array, 'addressable_shards', None)
  return [np.asarray(x.data) for x in shards] if shards else [np.asarray(array)]
