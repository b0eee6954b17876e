"""Captions as integers, for a text transformer that is trained in the network.

`tokens` int32 [n, length] are ended by padding, the largest token, where `mask`
bool [n, length] is false. The empty caption is padding alone.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from flowdistill.datasets.words import words_of
from flowdistill.flow.spec import TOKENS, Condition

MASK, BYTES = 'mask', 256


@dataclasses.dataclass(frozen=True)
class Words:
  """The first words of a caption, as their places in a vocabulary.

  Token V of V words is any other word, and V + 1 is padding.

  Attributes:
    length: number of words.
    vocabulary: the words.
    rare: whether the captions of the training had other words, too, so that
      their token was trained.
    cut: whether longer captions are cut; else they are refused.
  """

  length: int
  vocabulary: tuple[str, ...]
  rare: bool = False
  cut: bool = True
  unit: ClassVar[str] = 'words'

  @functools.cached_property
  def numbers(self) -> dict[str, int]:
    """Word -> token."""
    return {word: k for k, word in enumerate(self.vocabulary)}

  @property
  def conditions(self) -> dict[str, Condition]:
    """`tokens` and `mask` [length], abstractly."""
    return conditions_of(self.length, len(self.vocabulary) + 1)

  def encode(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
    """`tokens` int32 [n, length] and `mask` bool [n, length]."""
    other = len(self.vocabulary)
    rows = [
      [self.numbers.get(word, other) for word in words_of(caption)]
      for caption in captions
    ]
    return padded(rows, self.length, other + 1)

  def size(self, caption: str) -> int:
    """Its number of words."""
    return len(words_of(caption))

  def unknown(self, caption: str) -> list[str]:
    """The words of a caption whose token was never trained."""
    if self.rare:
      return []
    return [word for word in words_of(caption) if word not in self.numbers]

  def to_json(self) -> Mapping[str, Any]:
    """Its name, its options and the vocabulary."""
    options = {**dataclasses.asdict(self), 'vocabulary': [*self.vocabulary]}
    return {'name': 'words', **options}


@dataclasses.dataclass(frozen=True)
class Bytes:
  """The first bytes of a caption in UTF-8, no character cut; 256 is padding.

  Attributes:
    length: number of bytes.
    cut: whether longer captions are cut; else they are refused.
  """

  length: int
  cut: bool = True
  unit: ClassVar[str] = 'bytes'

  @property
  def conditions(self) -> dict[str, Condition]:
    """`tokens` and `mask` [length], abstractly."""
    return conditions_of(self.length, BYTES)

  def encode(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
    """`tokens` int32 [n, length] and `mask` bool [n, length]."""
    return padded([self._whole(c) for c in captions], self.length, BYTES)

  def _whole(self, caption: str) -> bytes:
    """The first bytes, without a character that does not fit."""
    head = utf_8(caption)[: self.length]
    return head.decode('utf-8', 'ignore').encode()

  def size(self, caption: str) -> int:
    """Its number of bytes."""
    return len(utf_8(caption))

  def unknown(self, caption: str) -> list[str]:
    """The words that mean nothing: none is known to."""
    del caption
    return []

  def to_json(self) -> Mapping[str, Any]:
    """Its name and options."""
    return {'name': 'bytes', **dataclasses.asdict(self)}


def utf_8(caption: str) -> bytes:
  """A caption in UTF-8; half a surrogate pair becomes a question mark."""
  return caption.encode('utf-8', 'replace')


def conditions_of(length: int, padding: int) -> dict[str, Condition]:
  """`tokens` [length], which are padding if null, and `mask` [length]."""
  return {
    TOKENS: Condition((length,), 'int32', padding),
    MASK: Condition((length,), 'bool', False),
  }


def padded(
  rows: Sequence[Sequence[int]], length: int, padding: int
) -> dict[str, np.ndarray]:
  """`tokens` int32 [n, length], of which longer rows are cut, and `mask`."""
  tokens = np.full((len(rows), length), padding, np.int32)
  for k, row in enumerate(rows):
    tokens[k, : len(row)] = list(row[:length])
  return {TOKENS: tokens, MASK: tokens != padding}
