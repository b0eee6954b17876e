"""Captions that a text encoder has encoded once, as conditions.

They are in a cache (see `caption_cache.py`). A prompt that is not in it is
encoded by the encoder itself, if that is at hand.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from flowdistill.datasets.caption_cache import (
  HOW,
  Cache,
  digest_of_encoder,
  in_dtype,
  key_of,
  open_cache,
)
from flowdistill.flow.spec import Condition

SHOWN = 60  # characters of a caption in a message


@dataclasses.dataclass(frozen=True)
class Encoded:
  """Captions as they are in a cache.

  Attributes:
    path: of its folder.
    encoder: SHA-256 of what its manifest says of the encoder.
    length: tokens of a caption.
    cut: whether longer captions are cut; else they are refused.
    live: manifest -> the encoder itself, for captions that are not there; None
      refuses them.
  """

  path: str
  encoder: str
  length: int
  cut: bool = True
  live: Callable[[Mapping[str, Any]], Any] | None = dataclasses.field(
    default=None, compare=False
  )
  unit: ClassVar[str] = 'tokens'

  @functools.cached_property
  def cache(self) -> Cache:
    """The folder.

    Raises:
      ValueError: if it is of another encoder now.
    """
    cache = open_cache(self.path, verify=False)
    if (cache.encoder, cache.length) != (self.encoder, self.length):
      raise ValueError(
        f'path = {self.path!r} must have captions of the encoder with the '
        f'sha256 {self.encoder[:12]}..., which was trained with, and has those '
        f'of {cache.encoder[:12]}...'
      )
    return cache

  @property
  def conditions(self) -> Mapping[str, Condition]:
    """`text`, and `mask` and `pooled` if the encoder has them."""
    return self.cache.conditions

  def check(self, captions: Iterable[str]) -> None:
    """Raises ValueError unless all captions are in the cache."""
    missing = [c for c in captions if self._number(c) is None]
    if missing:
      raise ValueError(
        f'path = {self.path!r} must have all captions, and {len(missing):,} '
        f'are not in it, such as {missing[0][:SHOWN]!r}: {HOW}, of these data'
      )

  def encode(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
    """name -> float32 or bool [n, ...], as `conditions`."""
    numbers = [self._number(caption) for caption in captions]
    missing = [c for c, k in zip(captions, numbers, strict=True) if k is None]
    if not missing:
      return self.cache.rows([k or 0 for k in numbers])
    others = self._live.encode([*dict.fromkeys(missing)])
    others = in_dtype(others, self.cache.dtype)
    places = {c: k for k, c in enumerate(dict.fromkeys(missing))}
    found = self.cache.rows([k or 0 for k in numbers])
    for row, caption in enumerate(captions):
      if caption in places:
        for name, array in found.items():
          array[row] = others[name][places[caption]]
    return found

  def size(self, caption: str) -> int:
    """Its number of tokens."""
    number = self._number(caption)
    if number is None:
      return self._live.sizes([caption])[0]
    return int(self.cache.sizes[number])

  def unknown(self, caption: str) -> list[str]:
    """The words that mean nothing: none is known to."""
    del caption
    return []

  def to_json(self) -> Mapping[str, Any]:
    """Its name, its folder and the encoder."""
    names = ('path', 'encoder', 'length', 'cut')
    return {'name': 'encoded', **{n: getattr(self, n) for n in names}}

  def _number(self, caption: str) -> int | None:
    return self.cache.numbers.get(key_of(self.encoder, caption))

  @functools.cached_property
  def _live(self) -> Any:
    """The encoder of the cache.

    Raises:
      ValueError: if there is none, or it is another one now.
    """
    if self.live is None:
      raise ValueError(f'a caption is not in path = {self.path!r}: {HOW}')
    encoder = self.live(self.cache.manifest)
    if digest_of_encoder(encoder.about()) != self.encoder:
      raise ValueError(
        f'the files of the encoder of path = {self.path!r} have changed since '
        'it was made'
      )
    return encoder
