"""Weights that ship with the package, beside their network."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from flax import nnx

Module = TypeVar('Module', bound=nnx.Module)


def load_weights(make: Callable[[], Module], path: pathlib.Path) -> Module:
  """The network that is made, with the weights of an .npz, in float32.

  They are NumPy arrays: no device is used, which several hosts must not before
  they have met.
  """
  graph, state = nnx.split(nnx.eval_shape(make))
  with np.load(path) as arrays:
    flat = {
      key: leaf.replace(np.asarray(arrays['.'.join(map(str, key))], np.float32))
      for key, leaf in nnx.to_flat_state(state)
    }
  return nnx.merge(graph, nnx.from_flat_state(flat))


def save_weights(model: nnx.Module, path: pathlib.Path) -> None:
  """Writes the weights in half precision to an .npz."""
  arrays: dict[str, Any] = {
    '.'.join(map(str, key)): np.asarray(leaf[...], np.float16)
    for key, leaf in nnx.to_flat_state(nnx.state(model))
  }
  np.savez(path, **arrays)


def digest(path: pathlib.Path) -> str:
  """The SHA-256 of a file, in hexadecimal digits."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
