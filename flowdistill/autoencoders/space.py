"""The encoding of images as the arrays that a network sees."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Space:
  """An encoder and its inverse.

  Attributes:
    shape: of an encoded example.
    encode: images [b, ...] -> [b, *shape], times `scale`.
    decode: the inverse.
    scale: factor of the encoded numbers, so that data has about variance 1.
  """

  shape: tuple[int, ...]
  encode: Callable[[Any], Any]
  decode: Callable[[Any], Any]
  scale: float = 1.0


def pixels(shape: tuple[int, ...]) -> Space:
  """The examples themselves."""
  return Space(shape, _same, _same)


def _same(x: Any) -> Any:
  return x
