"""What the bytes of an example become: rows, and of these x0."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.images import (
  MODES,
  RESIZES,
  decode,
  decode_covering,
  to_unit,
)
from flowdistill.flow.spec import CONTROL, DataSpec


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
    spec: of an example, [size, size, channels]; with 'centre_crop' also
      [height, width, channels].
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
    height, width, channels = self.spec.shape
    check_pixels(min(height, width), channels, self.resize)
    if height != width and self.resize != 'centre_crop':
      raise ValueError(
        f"resize = {self.resize!r} must be 'centre_crop' with buckets: "
        'pictures are cropped to the shape of their bucket'
      )

  @property
  def shape(self) -> tuple[int, ...]:
    """That of a picture."""
    return self.spec.shape

  def decode(self, data: bytes) -> np.ndarray:
    """The picture in a file, uint8 [*shape].

    Raises:
      ValueError: if it cannot be decoded.
    """
    height, width, channels = self.spec.shape
    if height != width:
      return decode_covering(data, height, width, channels)
    return decode(data, height, channels, RESIZES[self.resize])

  def finish(self, rows: np.ndarray) -> np.ndarray:
    """Pictures uint8 in [-1, 1]."""
    return to_unit(rows)


def in_buckets(decoder: Decoder, buckets: Buckets) -> list[Pixels]:
  """A decoder for the shape of each bucket, the square first.

  Raises:
    ValueError: if they are not pictures alone, or are not cropped.
  """
  if not isinstance(decoder, Pixels):
    raise ValueError('buckets must be None with latents, which have one shape')
  if CONTROL in decoder.spec.cond:
    raise ValueError(
      'buckets must be None with control: control pictures have one shape'
    )
  size, _, channels = decoder.spec.shape
  specs = [
    dataclasses.replace(decoder.spec, shape=(*shape, channels))
    for shape in buckets.shapes(size)
  ]
  return [dataclasses.replace(decoder, spec=spec) for spec in specs]


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
