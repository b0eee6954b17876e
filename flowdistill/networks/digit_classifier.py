"""The feature network of `frechet_digits`: a small classifier of 8 x 8 digits.

Its weights ship beside it in `digit_classifier.npz`, so that distances are
comparable between machines; `train_digit_classifier.py` trained them. The
features are the 64 activations before the last layer, in a unit in which the
Fréchet distance of two random halves of the real digits is 3 on average.
"""

import pathlib
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Array = jax.Array
WEIGHTS = pathlib.Path(__file__).with_suffix('.npz')


class DigitClassifier(nnx.Module):
  """64 pixels -> 128 -> 64 features -> 10 classes."""

  signature: ClassVar[str] = 'features'

  def __init__(self, *, rngs: nnx.Rngs):
    self.first = nnx.Linear(64, 128, rngs=rngs)
    self.second = nnx.Linear(128, 64, rngs=rngs)
    self.last = nnx.Linear(64, 10, rngs=rngs)
    self.unit = nnx.Param(jnp.ones(()))

  def hidden(self, x: Array) -> Array:
    """x [b, 8, 8, 1] in [-1, 1] -> activations [b, 64]."""
    if x.shape[1:] != (8, 8, 1):
      raise ValueError(
        f'the digit classifier takes [b, 8, 8, 1], got {x.shape}'
      )
    h = nnx.gelu(self.first(x.reshape(len(x), 64)))
    return nnx.gelu(self.second(h))

  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x [b, 8, 8, 1] in [-1, 1] -> (features [b, 64], logits [b, 10])."""
    h = self.hidden(x)
    return h / self.unit[...], self.last(h)


def load_digit_classifier() -> DigitClassifier:
  """The classifier with the weights that ship with the package."""
  model = DigitClassifier(rngs=nnx.Rngs(0))
  graph, state = nnx.split(model)
  with np.load(WEIGHTS) as arrays:
    flat = {
      path: leaf.replace(
        jnp.asarray(arrays['.'.join(map(str, path))], jnp.float32)
      )
      for path, leaf in nnx.to_flat_state(state)
    }
  return nnx.merge(graph, nnx.from_flat_state(flat))


def save_digit_classifier(model: DigitClassifier) -> None:
  """Writes the weights in half precision to the file that is loaded."""
  arrays: dict[str, Any] = {
    '.'.join(map(str, path)): np.asarray(leaf[...], np.float16)
    for path, leaf in nnx.to_flat_state(nnx.state(model))
  }
  np.savez(WEIGHTS, **arrays)
