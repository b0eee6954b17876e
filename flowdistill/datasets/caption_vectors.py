"""Captions as conditions without a text encoder: a fixed vector per word.

The vector of a word is a hash of it, in all versions and on every machine, so
that a network learns what each means, as with an embedding; related words are
not similar.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from flowdistill.flow.spec import Condition

TEXT, MASK, WIDTH = 'text', 'mask', 64
WORD = re.compile(r'\w+')


def conditions_of(words: int) -> dict[str, Condition]:
  """`text` [words, 64] and `mask` [words], abstractly."""
  return {
    TEXT: Condition((words, WIDTH), 'float32', 0.0),
    MASK: Condition((words,), 'bool', False),
  }


def encode(captions: Sequence[str], words: int) -> dict[str, np.ndarray]:
  """`text` float32 [n, words, 64] and `mask` bool [n, words].

  Args:
    captions: of n examples; capital letters and signs do not count.
    words: of each, the first ones are used.
  """
  text = np.zeros((len(captions), words, WIDTH), np.float32)
  mask = np.zeros((len(captions), words), bool)
  for row, caption in enumerate(captions):
    for k, word in enumerate(WORD.findall(caption.lower())[:words]):
      text[row, k], mask[row, k] = vector(word), True
  return {TEXT: text, MASK: mask}


def vector(word: str) -> np.ndarray:
  """The vector of a word, float32 [64], uniform with variance 1."""
  digest = hashlib.blake2b(word.encode(), digest_size=WIDTH).digest()
  return (np.frombuffer(digest, np.uint8) / 127.5 - 1).astype(
    np.float32
  ) * np.float32(np.sqrt(3))
