"""Captions to CLIP's tokens: byte pair encoding of lower-case words.

The vocabulary is a file that the user names, `bpe_simple_vocab_16e6.txt.gz` of
https://github.com/openai/CLIP or merges.txt of transformers: after its first
line, a pair of symbols in each line, to be merged in this order. As in
transformers, text is normalised to NFC and its spaces are joined; OpenAI also
repairs broken encodings. The words of the start and the end of a caption have
no meaning within one.

Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword
Units" (2015), https://arxiv.org/abs/1508.07909.
"""

import dataclasses
import gzip
import itertools
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flowdistill.files.paths import expand

MERGES = 49408 - 2 * 256 - 2  # in CLIP's vocabulary of 49 408 tokens
LENGTH = 77
END = '</w>'  # of a word
SUFFIXES = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
NUMBER = 'N'
LARGEST = 2**24  # bytes of a file, when it is expanded


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Captions to numbers.

  Attributes:
    ranks: pair of symbols -> its place in the file.
    numbers: symbol -> its number; those of start and end follow.
  """

  ranks: Mapping[tuple[str, str], int]
  numbers: Mapping[str, int]

  @property
  def start(self) -> int:
    """The token before a caption."""
    return len(self.numbers)

  @property
  def end(self) -> int:
    """The token after a caption, and the largest."""
    return len(self.numbers) + 1

  def __call__(
    self, captions: Sequence[str], length: int = LENGTH
  ) -> np.ndarray:
    """Captions -> int32 [n, length], cut and filled up with the end."""
    rows = np.full((len(captions), length), self.end, np.int32)
    for row, caption in zip(rows, captions, strict=True):
      tokens = [self.start, *self.encode(caption)][: length - 1]
      row[: len(tokens)] = tokens
    return rows

  def encode(self, caption: str) -> list[int]:
    """The tokens of a caption, without start and end."""
    return [
      self.numbers[symbol]
      for word in split(caption)
      for symbol in self.merge(word)
    ]

  def merge(self, word: str) -> list[str]:
    """The symbols of a word: the pair of the lowest rank is merged first."""
    letters = [LETTERS[byte] for byte in word.encode('utf-8')]
    symbols = [*letters[:-1], letters[-1] + END]
    while len(symbols) > 1:
      pairs = itertools.pairwise(symbols)
      best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
      if best not in self.ranks:
        break
      symbols = _joined(symbols, best)
    return symbols


def _joined(symbols: list[str], pair: tuple[str, str]) -> list[str]:
  """Symbols with every occurrence of a pair as one, from the left."""
  new = []
  for symbol in symbols:
    if new and (new[-1], symbol) == pair:
      new[-1] = ''.join(pair)
    else:
      new.append(symbol)
  return new


def split(caption: str) -> Iterator[str]:
  """Runs of letters, single digits, runs of other signs, English suffixes."""
  text = unicodedata.normalize('NFC', caption)
  for part in text.lower().split():
    i = 0
    while i < len(part):
      suffix = next((s for s in SUFFIXES if part.startswith(s, i)), None)
      size = len(suffix) if suffix else _run(part, i)
      yield part[i : i + size]
      i += size


def _run(text: str, i: int) -> int:
  """The length of the run of characters of one kind that begins at i."""
  kind = _kind(text[i])
  if kind == NUMBER:
    return 1
  run = itertools.takewhile(lambda c: _kind(c) == kind, text[i:])
  return sum(1 for _ in run)


def _kind(character: str) -> str:
  """'L' of letters, 'N' of numbers, and '' of others."""
  kind = unicodedata.category(character)[0]
  return kind if kind in 'LN' else ''


SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
HIDDEN = [byte for byte in range(256) if byte not in SHOWN]
LETTERS = {byte: chr(byte) for byte in SHOWN} | {
  byte: chr(256 + i) for i, byte in enumerate(HIDDEN)
}
"""Byte -> the visible character that stands for it, in the order of tokens."""


def read_tokenizer(path: str, merges: int = MERGES) -> Tokenizer:
  """The tokenizer of a file.

  Args:
    path: of a text file, or one that gzip made of it.
    merges: number of merges that are read.

  Raises:
    ValueError: if there is no such file, or it is something else.
  """
  file = expand(path, f'the vocabulary {path!r}')
  if not file.is_file():
    raise ValueError(f'there is no file {path} with a vocabulary of CLIP')
  lines = _lines(file)[1 : merges + 1]
  pairs = [tuple(line.split()) for line in lines]
  if len(pairs) < merges or any(len(pair) != 2 for pair in pairs):
    raise ValueError(
      f'{path} must have a pair of symbols in each of {merges} lines after the '
      'first, as bpe_simple_vocab_16e6.txt.gz and merges.txt of CLIP'
    )
  return make_tokenizer(pairs)


def make_tokenizer(pairs: Sequence[tuple[str, ...]]) -> Tokenizer:
  """The tokenizer that merges pairs, in this order."""
  letters = [*LETTERS.values()]
  words = [letter + END for letter in letters]
  symbols = [*letters, *words, *(''.join(pair) for pair in pairs)]
  return Tokenizer(
    {(a, b): i for i, (a, b) in enumerate(pairs)},
    {symbol: i for i, symbol in enumerate(symbols)},
  )


def _lines(file: pathlib.Path) -> list[str]:
  """The lines of a text file, or one that gzip made of it.

  Raises:
    ValueError: if it is damaged, too large or not UTF-8.
  """
  with file.open('rb') as opened:
    zipped = opened.read(2) == b'\x1f\x8b'
  try:
    with gzip.open(file) if zipped else file.open('rb') as opened:
      return opened.read(LARGEST).decode('utf-8').splitlines()
  except (OSError, EOFError, UnicodeDecodeError) as error:
    raise ValueError(f'{file} is damaged or not text: {error}') from error
