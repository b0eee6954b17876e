"""The words of a caption, in any script."""

import collections
import itertools
import re
import unicodedata
from collections.abc import Sequence

from flowdistill.files.paths import expand
from flowdistill.files.regular import open_regular

LONGEST = 2**26  # bytes of a list
PLAIN = re.compile(r'\w*[^\W_]\w*')
LETTERS, SYMBOLS = 'LMN', 'S'  # categories of Unicode


def words_of(caption: str) -> list[str]:
  """Its words, in lower case.

  A word is a run of letters with their marks, digits and underscores; a symbol
  beyond ASCII, such as an emoji, is a word. Punctuation does not count.
  """
  text = unicodedata.normalize('NFC', caption).lower()
  if text.isascii():
    return PLAIN.findall(text)
  found = []
  for kind, run in itertools.groupby(text, _kind):
    if kind == SYMBOLS:
      found += run
    elif kind and any(map(str.isalnum, word := ''.join(run))):
      found.append(word)
  return found


def _kind(character: str) -> str:
  """LETTERS, SYMBOLS or '' for what separates words."""
  if character == '_' or unicodedata.category(character)[0] in LETTERS:
    return LETTERS
  symbol = unicodedata.category(character)[0] == SYMBOLS
  return SYMBOLS if symbol and not character.isascii() else ''


def count_words(captions: Sequence[str], least: int) -> list[str]:
  """The words of captions that occur `least` times, in alphabetical order.

  So captions of the same words have the same vocabulary, whatever is frequent.
  """
  counts = collections.Counter(w for c in captions for w in words_of(c))
  return sorted(word for word, count in counts.items() if count >= least)


def read_words(path: str) -> list[str]:
  """The words of a file in UTF-8, one in each line.

  Raises:
    ValueError: if it cannot be read, or a line is no word, or stands there
      twice.
  """
  try:
    with open_regular(expand(path, f'vocabulary = {path!r}')) as file:
      lines = file.read(LONGEST).decode('utf-8-sig').split('\n')
  except (OSError, ValueError) as error:
    raise ValueError(
      f'vocabulary = {path!r} cannot be read: {error}'
    ) from error
  words = [line.strip() for line in lines if line.strip()]
  for word, count in collections.Counter(words).items():
    if words_of(word) != [word] or count > 1:
      raise ValueError(
        f'vocabulary = {path!r} must have a word in lower case on each line, '
        f'once, and has {word!r}'
      )
  return words
