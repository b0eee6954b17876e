"""What makes conditions of captions: a table, and what it records of itself.

An entry of `TEXTS` is `f(captions, *, length, ...) -> Encoder`: it may look at
the captions of the data once. What it then is, vocabulary and all, is recorded
in the spec of the examples (`Encoder.to_json`), and `read_encoder` makes it
again without data: prompts are encoded as the captions were.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from flowdistill.datasets.caption_cache import open_cache
from flowdistill.datasets.encoded import Encoded
from flowdistill.datasets.tokens import Bytes, Words
from flowdistill.datasets.word_vectors import WordVectors
from flowdistill.datasets.words import count_words, read_words
from flowdistill.flow.spec import Condition, DataSpec

MOST = 4096  # words or bytes of a caption
SHOWN = 60  # characters of a caption in a message


class Encoder(Protocol):
  """Captions -> conditions.

  `encode(captions)` is name -> array [n, ...], as `conditions` says abstractly;
  their null is the encoded empty caption. A caption has `size(caption)` units
  ('words', 'bytes'), of which `length` are used, and longer ones are cut or, if
  not `cut`, refused. `unknown(caption)` are words that were never trained on.
  """

  unit: ClassVar[str]

  @property
  def length(self) -> int: ...
  @property
  def cut(self) -> bool: ...
  @property
  def conditions(self) -> Mapping[str, Condition]: ...
  def encode(self, captions: Sequence[str], /) -> dict[str, np.ndarray]: ...
  def size(self, caption: str, /) -> int: ...
  def unknown(self, caption: str, /) -> list[str]: ...
  def to_json(self) -> Mapping[str, Any]: ...


class Text(Protocol):
  """text(captions of the data) -> Encoder."""

  def __call__(self, captions: Sequence[str], /) -> Encoder: ...


def word_vectors(
  captions: Sequence[str], *, length: int = 16, cut: bool = True
) -> WordVectors:
  """A fixed vector per word, which needs no training: see `word_vectors.py`.

  Args:
    captions: of the data.
    length: number of words.
    cut: whether longer captions are cut; else they are refused.
  """
  del captions
  return WordVectors(checked(length), cut)


def words(
  captions: Sequence[str],
  *,
  length: int = 24,
  vocabulary: str = '',
  least: int = 1,
  cut: bool = True,
) -> Words:
  """Words as tokens, for a text transformer in the network.

  Args:
    captions: of the data; none of a stream, which needs a vocabulary.
    length: number of words.
    vocabulary: a file with a word per line; '' takes those of the captions.
    least: how often a word must occur in the captions; a rarer one is a token
      that all such words share.
    cut: whether longer captions are cut; else they are refused.

  Raises:
    ValueError: for a file that is no list of words, or captions without any.
  """
  if least < 1:
    raise ValueError(f'least = {least} must be at least 1')
  if vocabulary and least > 1:
    raise ValueError(f'least = {least} has no effect with a vocabulary')
  if not vocabulary and not len(captions):
    raise ValueError(
      "vocabulary = '' must name a file with a word per line: a stream has no "
      'captions to take them from before it is read'
    )
  known = read_words(vocabulary) if vocabulary else count_words(captions, least)
  if not known:
    what = vocabulary or f'{len(captions)} captions'
    raise ValueError(f'vocabulary = {what!r} has no word')
  found = Words(checked(length), tuple(known), cut=cut)
  rare = any(found.unknown(caption) for caption in captions)
  return Words(length, tuple(known), rare, cut)


def utf8_bytes(
  captions: Sequence[str], *, length: int = 64, cut: bool = True
) -> Bytes:
  """Bytes as tokens, for a text transformer in the network.

  Args:
    captions: of the data.
    length: number of bytes in UTF-8.
    cut: whether longer captions are cut; else they are refused.
  """
  del captions
  return Bytes(checked(length), cut)


def encoded(
  captions: Sequence[str],
  *,
  path: str = '',
  cut: bool = True,
  verify: bool = True,
) -> Encoded:
  """What a text encoder made of the captions before: see `encoded.py`.

  Args:
    captions: of the data.
    path: the folder that a stage with a `text_encoder` has written.
    cut: whether longer captions are cut; else they are refused.
    verify: whether all files are hashed when the folder is opened; else only
      their presence and their sizes are checked.

  Raises:
    ValueError: if it is no such folder, is not finished, a file was changed, or
      a caption is not in it.
  """
  cache = open_cache(path, verify=verify)
  found = Encoded(path, cache.encoder, cache.length, cut)
  found.check(captions)
  return found


TEXTS = {
  'word_vectors': word_vectors,
  'words': words,
  'bytes': utf8_bytes,
  'encoded': encoded,
}
KINDS: Mapping[str, Callable[..., Encoder]] = {
  'word_vectors': WordVectors,
  'words': Words,
  'bytes': Bytes,
  'encoded': Encoded,
}
"""What the encoder of each is made of again."""


def checked(length: int) -> int:
  """The length; raises ValueError if it is out of range."""
  if not 1 <= length <= MOST:
    raise ValueError(f'length = {length} must lie in 1 ... {MOST}')
  return length


def read_encoder(
  record: Mapping[str, Any], kinds: Mapping[str, Callable[..., Encoder]] = KINDS
) -> Encoder:
  """The encoder from the result of `to_json`.

  Args:
    record: of the encoder.
    kinds: name -> what makes it of its options.

  Raises:
    ValueError: if it is none.
  """
  options = {k: v for k, v in record.items() if k != 'name'}
  if 'vocabulary' in options:
    options['vocabulary'] = tuple(options['vocabulary'])
  try:
    return kinds[record['name']](**options)
  except (KeyError, TypeError) as error:
    name = record.get('name')
    raise ValueError(f'{name!r} makes no text: {error}') from error


def spec_of(spec: DataSpec, encoder: Encoder) -> DataSpec:
  """A spec with the conditions that an encoder makes."""
  cond = {**spec.cond, **encoder.conditions}
  return dataclasses.replace(spec, cond=cond, text=encoder.to_json())


def too_long(encoder: Encoder, captions: Sequence[str], what: str) -> str:
  """'2 of 9 captions have more than 16 words and are cut', or ''.

  Raises:
    ValueError: if the encoder refuses them.
  """
  over = [c for c in captions if encoder.size(c) > encoder.length]
  if not over:
    return ''
  unit = f'{encoder.length} {encoder.unit}'
  if not encoder.cut:
    raise ValueError(
      f'{shortened(over[0])} has {encoder.size(over[0])} {encoder.unit}; with '
      f'cut = False it must have at most {unit}'
    )
  return (
    f'{len(over):,} of {len(captions):,} {what} have more than {unit} and are '
    f'cut, such as {shortened(over[0])}'
  )


def shortened(caption: str) -> str:
  """The beginning of a caption, in quotes."""
  more = '...' if len(caption) > SHOWN else ''
  return f'{caption[:SHOWN]!r}{more}'
