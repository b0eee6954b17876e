"""Captions as conditions without a text encoder: a fixed vector per word.

The vector of a word is a hash of it, in all versions and on every machine, so
that a network learns what each means, as with an embedding; related words are
not similar. Every word has a vector, so that there is no vocabulary. The place
of a word is that of its vector: networks add positions of their own.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from flowdistill.datasets.words import words_of
from flowdistill.flow.spec import Condition

TEXT, MASK, WIDTH = 'text', 'mask', 64


@dataclasses.dataclass(frozen=True)
class WordVectors:
  """Vectors of the first words of a caption.

  Attributes:
    length: number of words.
    cut: whether longer captions are cut; else they are refused.
  """

  length: int
  cut: bool = True
  unit: ClassVar[str] = 'words'

  @property
  def conditions(self) -> dict[str, Condition]:
    """`text` [length, 64] and `mask` [length], abstractly."""
    return {
      TEXT: Condition((self.length, WIDTH), 'float32', 0.0),
      MASK: Condition((self.length,), 'bool', False),
    }

  def encode(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
    """`text` float32 [n, length, 64] and `mask` bool [n, length]."""
    text = np.zeros((len(captions), self.length, WIDTH), np.float32)
    mask = np.zeros((len(captions), self.length), bool)
    for row, caption in enumerate(captions):
      for k, word in enumerate(words_of(caption)[: self.length]):
        text[row, k], mask[row, k] = vector(word), True
    return {TEXT: text, MASK: mask}

  def size(self, caption: str) -> int:
    """Its number of words."""
    return len(words_of(caption))

  def unknown(self, caption: str) -> list[str]:
    """The words that mean nothing: none is known to."""
    del caption
    return []

  def to_json(self) -> Mapping[str, Any]:
    """Its name and options."""
    return {'name': 'word_vectors', **dataclasses.asdict(self)}


@functools.lru_cache(maxsize=2**15)
def vector(word: str) -> np.ndarray:
  """The vector of a word, float32 [64], uniform with variance 1; read-only."""
  data = word.encode('utf-8', 'surrogateescape')
  digest = hashlib.blake2b(data, digest_size=WIDTH).digest()
  found = np.frombuffer(digest, np.uint8) / 127.5 - 1
  found = found.astype(np.float32) * np.float32(np.sqrt(3))
  found.flags.writeable = False
  return found
