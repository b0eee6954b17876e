"""Feature networks, for metrics: numpy in, numpy out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flowdistill.networks.digit_classifier import load_digit_classifier
from flowdistill.networks.emoji_classifier import (
  in_colour,
  load_emoji_classifier,
)

BATCH = 1024
SIDE = 8  # height and width of the classifier's digits


@dataclasses.dataclass(frozen=True)
class Features:
  """A feature network and the name of distances in its features.

  Attributes:
    name: suffix of the metrics: 'digits' gives `frechet_digits`.
    network: x [b, ...] -> (features [b, d], logits [b, k]).
  """

  name: str
  network: Callable[[Any], tuple[jax.Array, jax.Array]]

  def check(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError if the network cannot take examples of a shape."""
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    jax.eval_shape(self.network, x)

  @property
  def about(self) -> dict[str, str]:
    """What else a figure depends on: nothing, for the network ships with us."""
    return {}

  def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, ...] -> (features [n, d], logits [n, k]), a batch at a time."""
    parts = [self.network(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    features, logits = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(logits)


def digits() -> Features:
  """The classifier of 8 x 8 digits that ships with the package.

  Larger ones are reduced to means of 2 x 2, 3 x 3, ... pixels, so that finer
  detail has no effect.
  """
  classify = load_digit_classifier()
  return Features('digits', jax.jit(lambda x: classify(shrink(x, SIDE))))


def emoji() -> Features:
  """The classifier of 32 x 32 emoji that ships with the package.

  Larger pictures are reduced as those of `digits` are; for others see
  `in_colour`.
  """
  classify = load_emoji_classifier()
  return Features(
    'emoji', jax.jit(lambda x: classify(shrink(in_colour(x), 32)))
  )


def shrink(x: jax.Array, side: int) -> jax.Array:
  """Means over equal squares, [b, side k, side k, c] -> [b, side, side, c].

  Raises:
    ValueError: if the image cannot be divided into them.
  """
  b, h, w, c = x.shape
  if h != w or h < side or h % side:
    raise ValueError(
      f'the features are of images of {side} x {side} or a multiple of it, '
      f'not {h} x {w}'
    )
  cells = x.reshape(b, side, h // side, side, w // side, c)
  return cells.mean((2, 4))
