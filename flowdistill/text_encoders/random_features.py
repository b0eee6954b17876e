"""A text encoder without weights to download: random features of words.

A word is the mean of fixed vectors of its character trigrams, so that words
that are spelt alike are near each other. The words drive a fixed random
recurrent network from the left and one from the right, whose states are the
tokens: with the word itself they carry what stands before and behind it. The
last states are `pooled`. All numbers are functions of the seed, in all versions
of NumPy; another machine may round the last bits otherwise.

Source: Jaeger, "The 'echo state' approach to analysing and training recurrent
neural networks" (2001), GMD report 148; Wieting & Kiela, "No Training Required:
Exploring Random Encoders for Sentence Classification" (2019),
https://arxiv.org/abs/1901.10444.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from flowdistill.flow.noise import check_seed
from flowdistill.flow.spec import Condition
from flowdistill.text_encoders.encoder import (
  MASK,
  POOLED,
  TEXT,
  Arrays,
  check_length,
  padded,
)

WORD = re.compile(r'\w+|[^\w\s]')
WIDEST, GRAM = 4096, 3
RADIUS = 0.9  # of the recurrent matrices, below 1: older words are forgotten


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomFeatures:
  """Random features of the words and signs of a caption, in lower case.

  Attributes:
    length: number of words.
    width: of a token, a multiple of 4: half of it is the word, the rest what
      stands before and behind it.
    seed: of the vectors and matrices, in [0, 2³²).
    cut: whether longer captions are cut; else they are refused.
  """

  length: int = 32
  width: int = 128
  seed: int = 0
  cut: bool = True
  unit: ClassVar[str] = 'words'
  masked: ClassVar[bool] = True

  def __post_init__(self) -> None:
    check_length(self.length)
    check_seed(self.seed)
    if not 4 <= self.width <= WIDEST or self.width % 4:
      raise ValueError(
        f'width = {self.width} must be a multiple of 4 in 4 ... {WIDEST}'
      )

  @property
  def conditions(self) -> dict[str, Condition]:
    """`text`, `mask` and `pooled`, abstractly; the null is zero."""
    return {
      TEXT: Condition((self.length, self.width), 'float32', 0.0),
      MASK: Condition((self.length,), 'bool', False),
      POOLED: Condition((self.width // 2,), 'float32', 0.0),
    }

  def encode(self, captions: Sequence[str]) -> Arrays:
    """Captions -> `text`, `mask` and `pooled` [n, width / 2]."""
    parts = [self._caption(words_of(c)[: self.length]) for c in captions]
    pooled = np.stack([pooled for _, pooled in parts])
    rows = padded([rows for rows, _ in parts], self.length)
    return {**rows, POOLED: pooled}

  def sizes(self, captions: Sequence[str]) -> list[int]:
    """The words of whole captions."""
    return [*map(self.size, captions)]

  def size(self, caption: str) -> int:
    """Its number of words."""
    return len(words_of(caption))

  def unknown(self, caption: str) -> list[str]:
    """The words that mean nothing: none is known to."""
    del caption
    return []

  def to_json(self) -> Mapping[str, Any]:
    """Its name and options."""
    return {'name': 'random_features', **dataclasses.asdict(self)}

  def about(self) -> Mapping[str, Any]:
    """All that it depends on."""
    return {**self.to_json(), 'version': 1}

  def check(self) -> None:
    """There is nothing to miss."""

  def _caption(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens [m, width] of words, and their last states [width / 2]."""
    half, quarter = self.width // 2, self.width // 4
    x = np.zeros((len(words), half), np.float32)
    for k, word in enumerate(words):
      x[k] = word_vector(word, half, self.seed)
    forwards = states(x, *matrices(half, quarter, self.seed, 0))
    backwards = states(x[::-1], *matrices(half, quarter, self.seed, 1))
    rows = np.concatenate([x, forwards[1:], backwards[:0:-1]], axis=1)
    return rows, np.concatenate([forwards[-1], backwards[-1]])


def words_of(caption: str) -> list[str]:
  """Its words and signs, in lower case."""
  return WORD.findall(caption.lower())


def states(x: np.ndarray, into: np.ndarray, back: np.ndarray) -> np.ndarray:
  """h[k + 1] = √3 tanh(x[k] into + h[k] back), from h[0] = 0; [m + 1, n]."""
  h = np.zeros((len(x) + 1, len(back)), np.float32)
  for k, row in enumerate(x):
    h[k + 1] = np.sqrt(np.float32(3)) * np.tanh(row @ into + h[k] @ back)
  return h


@functools.cache
def matrices(
  width: int, size: int, seed: int, number: int
) -> tuple[np.ndarray, np.ndarray]:
  """Input [width, size], variance 1 / width, and an orthogonal one · 0.9."""
  into = uniform(f'{seed} into {number}', (width, size))
  back, _ = np.linalg.qr(uniform(f'{seed} back {number}', (size, size)))
  scale = RADIUS / np.sqrt(3)
  return into / np.float32(np.sqrt(width)), np.float32(scale) * back


@functools.lru_cache(maxsize=2**15)
def word_vector(word: str, width: int, seed: int) -> np.ndarray:
  """The mean of the vectors of a word and its trigrams, variance 1 each."""
  text = f'<{word}>'
  grams = [text[k : k + GRAM] for k in range(len(text) - GRAM + 1)]
  parts = [uniform(f'{seed} gram {g}', (width,)) for g in [text, *grams]]
  return np.sum(parts, axis=0) / np.sqrt(np.float32(len(parts)))


def uniform(key: str, shape: tuple[int, ...]) -> np.ndarray:
  """Numbers with variance 1 by a hash of the key, float32."""
  data = key.encode('utf-8', 'surrogatepass')
  size = int(np.prod(shape))
  found = np.frombuffer(hashlib.shake_256(data).digest(size), np.uint8)
  found = (found.astype(np.float32) - 127.5) / np.float32(73.9)
  return found.reshape(shape)
