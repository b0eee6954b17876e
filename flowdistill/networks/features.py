"""Feature networks, for metrics: numpy in, numpy out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flowdistill.networks.digit_classifier import load_digit_classifier

BATCH = 1024
SIDE = 8  # of the digits that the classifier knows


@dataclasses.dataclass(frozen=True)
class Features:
  """A feature network and what a distance in its features is called.

  Attributes:
    name: 'digits' makes the metric `frechet_digits`.
    network: x [b, ...] -> (features [b, d], logits [b, k]).
  """

  name: str
  network: Callable[[Any], tuple[jax.Array, jax.Array]]

  def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, ...] -> (features [n, d], logits [n, k]), a batch at a time."""
    parts = [self.network(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    features, logits = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(logits)


def digits() -> Features:
  """The classifier of 8 x 8 digits that ships with the package.

  Of larger ones it sees the means of 2 x 2, 3 x 3, ... pixels, and so nothing
  that is finer than those.
  """
  classify = load_digit_classifier()
  return Features('digits', jax.jit(lambda x: classify(shrink(x, SIDE))))


def shrink(x: jax.Array, side: int) -> jax.Array:
  """Means over equal squares, [b, side k, side k, c] -> [b, side, side, c].

  Raises:
    ValueError: if there are no such squares.
  """
  b, h, w, c = x.shape
  if h != w or h < side or h % side:
    raise ValueError(
      f'the features are of images of {side} x {side} or a multiple of it, '
      f'not {h} x {w}'
    )
  cells = x.reshape(b, side, h // side, side, w // side, c)
  return cells.mean((2, 4))


FEATURES = {'digits': digits}
