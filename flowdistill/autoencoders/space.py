"""The encoding of images as the arrays that a network sees."""

import dataclasses
from collections.abc import Callable
from typing import Any

Numbers = float | tuple[float, ...]


def _nothing() -> None:
  """For a space without weights."""


@dataclasses.dataclass(frozen=True)
class Space:
  """An encoder and its inverse.

  Attributes:
    shape: of an encoded example.
    encode: images [b, ...] -> [b, *shape], times `scale`.
    decode: the inverse.
    scale: factor of the encoded numbers, so that data has about variance 1.
    shift: subtracted before. Both are a number, or one for each channel.
    moments: images -> (mean, standard deviation) of their latents, before shift
      and scale; `encode` takes the mean. None if an image has one encoding.
    digest: the SHA-256 of the file of its weights.
    check: raises ValueError if its weights cannot be read.
  """

  shape: tuple[int, ...]
  encode: Callable[[Any], Any]
  decode: Callable[[Any], Any]
  scale: Numbers = 1.0
  shift: Numbers = 0.0
  moments: Callable[[Any], tuple[Any, Any]] | None = None
  digest: Callable[[], str | None] = _nothing
  check: Callable[[], Any] = _nothing


def pixels(shape: tuple[int, ...]) -> Space:
  """The examples themselves."""
  return Space(shape, _same, _same)


def _same(x: Any) -> Any:
  return x
