"""Files of `flax.training.checkpoints` and `flax.serialization`, in msgpack.

A file is a tree of dicts with arrays. Orbax, which Flax uses since 0.7, puts
such a file named `checkpoint` into a folder. A name is that of the keys on the
way, such as ema_params.net.final_layer.linear.bias.
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import serialization, traverse_util

DEEPEST = 32  # levels
ELSEWHERE = 'PLACEHOLDER://'  # of an array that Orbax has in another file


def read_flax(
  path: pathlib.Path, choose: Callable[[list[str]], list[str]]
) -> dict[str, np.ndarray]:
  """The arrays of a file whose names `choose` selects.

  Raises:
    ValueError: if it is damaged, or an array is in another file.
  """
  tree = serialization.msgpack_restore(path.read_bytes())
  leaves = dict(_leaves(tree))
  chosen = choose(list(leaves))
  for name in chosen:
    if not isinstance(leaves[name], np.ndarray):
      raise ValueError(
        f'{name} is in another file of an Orbax checkpoint: restore it there, '
        'and save its arrays as .npz'
      )
  return {name: leaves[name] for name in chosen}


def write_flax(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays, by names such as 'net.blocks.layers_0.bias', as a tree."""
  contiguous = {n: np.asarray(x, order='C') for n, x in arrays.items()}
  tree = traverse_util.unflatten_dict(contiguous, sep='.')
  path.write_bytes(serialization.msgpack_serialize(tree))


def _leaves(tree: Any, name: str = '', depth: int = 0) -> Iterator[Any]:
  """(name, array or placeholder) of a tree, in its order."""
  if depth > DEEPEST:
    raise ValueError(f'it has more than {DEEPEST} levels')
  if isinstance(tree, Mapping):
    for key, child in tree.items():
      yield from _leaves(
        child, f'{name}.{key}' if name else str(key), depth + 1
      )
  elif isinstance(tree, np.ndarray) or str(tree).startswith(ELSEWHERE):
    yield name, tree
