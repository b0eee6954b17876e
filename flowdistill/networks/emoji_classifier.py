"""The feature network of `frechet_emoji`: a small classifier of 32 x 32 emoji.

Its weights ship beside it in `emoji_classifier.npz`, so that distances are
comparable between machines; `train_emoji_classifier.py` trained them. The
features are the 64 activations before the last layers, in a unit in which the
Fréchet distance of two random halves of the 3 926 emoji is 3 on average.
"""

import pathlib
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.shipped_weights import load_weights

Array = jax.Array
WEIGHTS = pathlib.Path(__file__).with_suffix('.npz')
SIDE, LEVELS, FEATURES = 32, (24, 48, 96, 128), 64
GROUPS = (
  'Smileys & Emotion',
  'People & Body',
  'Component',
  'Animals & Nature',
  'Food & Drink',
  'Travel & Places',
  'Activities',
  'Objects',
  'Symbols',
  'Flags',
)


class EmojiClassifier(nnx.Module):
  """32 x 32 pixels -> four convolutions, halved after each -> 64 features.

  They say the group of an emoji; when the network was trained, also its
  subgroup.
  """

  signature: ClassVar[str] = 'features'

  def __init__(self, *, rngs: nnx.Rngs):
    sides = (3, *LEVELS[:-1])
    self.levels = nnx.List(
      nnx.Conv(i, o, (3, 3), rngs=rngs)
      for i, o in zip(sides, LEVELS, strict=True)
    )
    pixels = (SIDE >> len(LEVELS)) ** 2
    self.dense = nnx.Linear(pixels * LEVELS[-1], FEATURES, rngs=rngs)
    self.group = nnx.Linear(FEATURES, len(GROUPS), rngs=rngs)
    self.unit = nnx.Param(jnp.ones(()))

  def hidden(self, x: Array) -> Array:
    """x [b, 32, 32, 3] in [-1, 1] -> activations [b, 64]."""
    if x.shape[1:] != (SIDE, SIDE, 3):
      raise ValueError(
        f'the emoji classifier takes [b, {SIDE}, {SIDE}, 3], got {x.shape}'
      )
    for level in self.levels:
      x = nnx.avg_pool(nnx.gelu(level(x)), (2, 2), (2, 2))
    return nnx.gelu(self.dense(x.reshape(len(x), -1)))

  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x [b, 32, 32, 3] -> (features [b, 64], logits of GROUPS [b, 10])."""
    h = self.hidden(x)
    return h / self.unit[...], self.group(h)


def in_colour(x: Array) -> Array:
  """Pictures [b, h, w, c] in [-1, 1] as RGB, of at least 32 x 32 if they fit.

  Grey has three equal channels, a fourth channel is composited on white, and
  pixels of smaller pictures are repeated.
  """
  if x.shape[-1] == 4:
    alpha = (x[..., 3:] + 1) / 2
    x = x[..., :3] * alpha + 1 - alpha
  if x.shape[-1] == 1:
    x = x.repeat(3, axis=-1)
  times = SIDE // x.shape[1] if SIDE % x.shape[1] == 0 else 1
  return x.repeat(times, axis=1).repeat(times, axis=2)


def load_emoji_classifier() -> EmojiClassifier:
  """The classifier with the weights that ship with the package."""
  return load_weights(lambda: EmojiClassifier(rngs=nnx.Rngs(0)), WEIGHTS)
