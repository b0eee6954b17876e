"""Weights that ship with the package, beside their network."""

import hashlib
import pathlib
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

Module = TypeVar('Module', bound=nnx.Module)


def load_weights(model: Module, path: pathlib.Path) -> Module:
  """The network with the weights of an .npz, in float32."""
  graph, state = nnx.split(model)
  with np.load(path) as arrays:
    flat = {
      key: leaf.replace(
        jnp.asarray(arrays['.'.join(map(str, key))], jnp.float32)
      )
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
