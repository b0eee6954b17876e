"""The feature networks whose weights ship with the package."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flowdistill.networks.digit_classifier import WEIGHTS as DIGITS
from flowdistill.networks.digit_classifier import load_digit_classifier
from flowdistill.networks.emoji_classifier import WEIGHTS as EMOJI
from flowdistill.networks.emoji_classifier import (
  in_colour,
  load_emoji_classifier,
)
from flowdistill.networks.shipped_weights import digest

SIDE = 8  # height and width of the classifier's digits
KINDS = 'features', 'logits'


@dataclasses.dataclass(frozen=True)
class Features:
  """A feature network, as `Gauge` places it on devices.

  Attributes:
    name: suffix of the metrics: 'digits' gives `frechet_digits`.
    sha256: of the file of its weights.
    network: x [b, ...] -> (features [b, d], logits [b, k]).
    length: d, of the features.
    params: none, as the weights ship with the package.
    kinds: what `apply` answers.
    batch: examples of a call on each device.
  """

  name: str
  sha256: str
  network: Callable[[Any], tuple[jax.Array, jax.Array]]
  length: int = 64
  params: Any = ()
  kinds: tuple[str, ...] = KINDS
  batch: int = 1024

  @property
  def networks(self) -> tuple['Features', ...]:
    """Itself."""
    return (self,)

  @property
  def about(self) -> dict[str, str]:
    """What a figure depends on. It sees the samples as they are, not uint8."""
    return {
      'features': self.name,
      'weights_sha256': self.sha256,
      'uint8': 'none',
    }

  def check(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError if the network cannot take examples of a shape."""
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    jax.eval_shape(self.network, x)

  def length_of(self, kind: str) -> int:
    """Of the features of a kind; there is one."""
    del kind
    return self.length

  def prepare(self, x: np.ndarray) -> np.ndarray:
    """x [b, ...] as `apply` takes it."""
    return np.asarray(x, np.float32)

  def apply(self, params: Any, x: jax.Array) -> dict[str, jax.Array]:
    """x [b, ...] -> features [b, d] and logits [b, k], by name."""
    del params
    return dict(zip(KINDS, self.network(x), strict=True))


def digits() -> Features:
  """The classifier of 8 x 8 digits that ships with the package.

  Larger ones are reduced to means of 2 x 2, 3 x 3, ... pixels, so that finer
  detail has no effect.
  """
  classify = load_digit_classifier()
  return Features('digits', digest(DIGITS), lambda x: classify(shrink(x, SIDE)))


def emoji() -> Features:
  """The classifier of 32 x 32 emoji that ships with the package.

  Larger pictures are reduced as those of `digits` are; for others see
  `in_colour`.
  """
  classify = load_emoji_classifier()
  return Features(
    'emoji', digest(EMOJI), lambda x: classify(shrink(in_colour(x), 32))
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
