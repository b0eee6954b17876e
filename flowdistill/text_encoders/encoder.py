"""What all text encoders answer, and how their tokens are laid out.

An encoder turns captions into `text` float32 [n, length, width], and some also
into `mask` bool [n, length], true for real tokens, which come first; and into
`pooled` float32 [n, size]. With a mask, padding is zero and takes no part; the
networks of an encoder without one were trained on its padding, too.

The empty caption is the null condition.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Arrays = dict[str, np.ndarray]
TEXT, MASK, POOLED = 'text', 'mask', 'pooled'
MOST = 4096  # tokens of a caption


class TextEncoder(Protocol):
  """Captions -> arrays, by frozen weights.

  `sizes` are the tokens of whole captions, of which `length` are encoded. The
  encoding of a caption is a function of the caption and of `about()` alone, up
  to rounding. `check()` finds what is missing, without loading any weights.
  """

  @property
  def length(self) -> int: ...
  @property
  def masked(self) -> bool: ...
  def sizes(self, captions: Sequence[str], /) -> list[int]: ...
  def encode(self, captions: Sequence[str], /) -> Arrays: ...
  def about(self) -> Mapping[str, Any]: ...
  def check(self) -> None: ...


def padded(rows: Sequence[np.ndarray], length: int) -> Arrays:
  """Rows [m, width] of real tokens as `text`, zero at its end, and `mask`."""
  width = rows[0].shape[-1]
  text = np.zeros((len(rows), length, width), np.float32)
  mask = np.zeros((len(rows), length), bool)
  for k, row in enumerate(rows):
    text[k, : len(row)], mask[k, : len(row)] = row, True
  return {TEXT: text, MASK: mask}


def in_row(
  rows: Sequence[Sequence[int]], length: int, padding: int
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of tokens as [n, length], padded, and which of them are real."""
  tokens = np.full((len(rows), length), padding, np.int64)
  mask = np.zeros(tokens.shape, bool)
  for k, row in enumerate(rows):
    tokens[k, : len(row)], mask[k, : len(row)] = row, True
  return tokens, mask


def in_batches(
  encode: Callable[[Sequence[str]], Arrays], captions: Sequence[str], size: int
) -> Arrays:
  """What `encode` answers for all captions, of which it sees `size` at once."""
  parts = [
    encode(captions[first : first + size])
    for first in range(0, len(captions), size)
  ]
  return {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }


def check_length(length: int, most: int = MOST) -> int:
  """The length; raises ValueError if it is out of range."""
  if not 1 <= length <= most:
    raise ValueError(f'length = {length} must lie in 1 ... {most}')
  return length
