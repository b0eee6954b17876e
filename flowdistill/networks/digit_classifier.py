"""The feature network of `frechet_digits`: a small classifier of 8 x 8 digits.

Its weights ship beside it in `digit_classifier.npz`, so that distances are
comparable between machines; `train_digit_classifier.py` trained them. The
features are the 64 activations before the last layer, in a unit in which the
Fréchet distance of two random halves of the real digits is 3 on average.
"""

import pathlib
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.shipped_weights import load_weights

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
  return load_weights(lambda: DigitClassifier(rngs=nnx.Rngs(0)), WEIGHTS)
