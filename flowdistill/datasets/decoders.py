"""What the bytes of an example become: rows, and of these x0."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from flowdistill.datasets.images import MODES, RESIZES, decode, to_unit
from flowdistill.flow.spec import DataSpec


class Decoder(Protocol):
  """Bytes -> a row, and rows -> x0 float32 [b, *spec.shape].

  `decode(data)` returns a row, of `shape` and `dtype`, or raises ValueError.
  `finish(rows)` makes x0 of rows [b, *shape]; where x0 is random, it is a mean,
  and `draw(rows, rngs)` draws it, with a generator for each row. Of latents
  `pictures` is the shape of the images, and `manifest` says what made them; of
  pictures it is None.
  """

  @property
  def spec(self) -> DataSpec: ...
  @property
  def shape(self) -> tuple[int, ...]: ...
  @property
  def dtype(self) -> Any: ...
  @property
  def pictures(self) -> tuple[int, ...] | None: ...
  @property
  def manifest(self) -> Mapping[str, Any]: ...
  def decode(self, data: bytes, /) -> np.ndarray: ...
  def finish(self, rows: np.ndarray, /) -> np.ndarray: ...
  @property
  def draw(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Pixels:
  """The files of pictures (see `Decoder`).

  Attributes:
    spec: of an example, [size, size, channels].
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).

  Raises:
    ValueError: if an option is out of range.
  """

  spec: DataSpec
  resize: str
  dtype = np.uint8
  pictures = None
  manifest = MappingProxyType[str, Any]({})
  draw = None

  def __post_init__(self) -> None:
    size, _, channels = self.spec.shape
    check_pixels(size, channels, self.resize)

  @property
  def shape(self) -> tuple[int, ...]:
    """That of a picture."""
    return self.spec.shape

  def decode(self, data: bytes) -> np.ndarray:
    """The picture in a file, uint8 [size, size, channels].

    Raises:
      ValueError: if it cannot be decoded.
    """
    size, _, channels = self.spec.shape
    return decode(data, size, channels, RESIZES[self.resize])

  def finish(self, rows: np.ndarray) -> np.ndarray:
    """Pictures uint8 in [-1, 1]."""
    return to_unit(rows)


def check_pixels(size: int, channels: int, resize: str) -> None:
  """Raises ValueError for an option that is out of range."""
  if size < 1:
    raise ValueError(f'size = {size} must be at least 1')
  if channels not in MODES:
    raise ValueError(f'channels = {channels} must be 1 or 3')
  if resize not in RESIZES:
    choices = ', '.join(RESIZES)
    raise ValueError(f'resize = {resize!r} must be one of {choices}')


def generators(
  seed: int, keys: Sequence[tuple[int, ...]]
) -> list[np.random.Generator]:
  """A generator for each key, a function of (seed, key)."""
  sequences = (np.random.SeedSequence(seed, spawn_key=key) for key in keys)
  return [*map(np.random.default_rng, sequences)]
