"""Which examples are held out: by a hash of their key, or by a list.

With the hash, an example stays in its split when others are added or removed,
on every machine and in every version of NumPy. Only among so few examples that
none or all would be held out, one changes its split.
"""

import codecs
import functools
import hashlib
import math
from collections.abc import Sequence

import numpy as np

from flowdistill.files.paths import expand
from flowdistill.files.regular import open_regular

SPLITS = ('all', 'train', 'validation')
LONGEST = 2**28  # bytes of a list
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check(split: str, validation: float) -> None:
  """Raises ValueError for an unknown split or a share out of range."""
  if split not in SPLITS:
    choices = ', '.join(map(repr, SPLITS))
    raise ValueError(f'split = {split!r} must be one of {choices}')
  if not 0 <= validation <= 1:
    raise ValueError(f'validation = {validation} must lie in [0, 1]')


def is_member(key: int | str, split: str, *, validation: float = 0.1) -> bool:
  """Whether the example with this key belongs to a split.

  Args:
    key: what identifies the example: its index or its file name.
    split: 'all', 'train' or 'validation'; the last two partition the first.
    validation: share of the examples that are held out, in [0, 1].

  Raises:
    ValueError: for an unknown split, or a share out of range.
  """
  check(split, validation)
  held_out = hash_of(key) < validation * 2**64
  return split == 'all' or held_out == (split == 'validation')


def hash_of(key: int | str) -> int:
  """A hash in 0 ... 2⁶⁴ − 1 that is the same everywhere."""
  # The bytes of a file name that are not UTF-8 are escaped as surrogates.
  data = str(key).encode('utf-8', 'surrogateescape')
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), 'big')


def split_places(
  keys: Sequence[int | str],
  split: str,
  *,
  validation: float = 0.1,
  held_out: str | None = None,
) -> np.ndarray:
  """The positions of a split's members among `keys`, ascending, int64 [m].

  Args:
    keys: of all examples.
    split: 'all', 'train' or 'validation'.
    validation: share of the examples that are held out, in [0, 1].
    held_out: a file with the keys that are held out, one per line, which
      replaces the hash.

  Raises:
    ValueError: as `is_member`, for an empty split, or a line that is no key.
  """
  check(split, validation)
  held = _held(keys, split, validation, held_out)
  wanted = {'all': held | True, 'train': ~held, 'validation': held}
  places = np.flatnonzero(wanted[split])
  if not len(places):
    raise ValueError(
      f'the split {split!r} of {len(keys)} examples is empty: use more '
      "examples or the split 'all'"
    )
  return places


def _held(
  keys: Sequence[int | str], split: str, validation: float, held_out: str | None
) -> np.ndarray:
  """Whether each key is held out, bool [n]; 'all' needs no hash."""
  if held_out is not None:
    out = listed_keys(held_out, {str(key) for key in keys})
    return np.asarray([str(key) in out for key in keys], bool)
  if split == 'all':
    return np.zeros(len(keys), bool)
  hashes = np.fromiter(map(hash_of, keys), np.uint64, len(keys))
  return by_hash(hashes, validation)


def by_hash(hashes: np.ndarray, validation: float) -> np.ndarray:
  """Which of some hashes uint64 [n] are held out, bool [n].

  Of two or more examples at least one is held out, and one is not, unless the
  share is 0 or 1: that with the smallest hash, or all but that with the
  largest.
  """
  if validation == 0:
    return np.zeros(len(hashes), bool)
  held = hashes <= np.uint64(math.ceil(validation * 2**64) - 1)
  if len(held) > 1 and validation < 1:
    held[hashes.argmin()] = True
    held[hashes.argmax()] = False
  return held


def listed_keys(path: str, keys: set[str]) -> set[str]:
  """The lines of a file, each of which must be one of `keys`.

  Spaces around a key, empty lines and a byte order mark are left out. A name
  that is not UTF-8 stands there as its bytes.
  """
  lines = read_lines(path)
  listed = {line if line in keys else line.strip() for line in lines} - {''}
  if missing := sorted(listed - keys):
    raise ValueError(
      f'held_out = {path!r}: no example is {missing[0]!r}; they are named as '
      f'{min(keys)!r} is'
    )
  return listed


def read_lines(path: str) -> list[str]:
  """The lines of a list.

  Raises:
    ValueError: if it cannot be read, has more than `LONGEST` bytes, or is not
      text in UTF-8.
  """
  where = expand(path, f'held_out = {path!r}')
  try:
    with open_regular(where) as file:
      data = file.read(LONGEST + 1)
  except (OSError, ValueError) as error:
    raise ValueError(f'held_out = {path!r} cannot be read: {error}') from error
  if len(data) > LONGEST or b'\0' in data or data.startswith(UTF_16):
    raise ValueError(
      f'held_out = {path!r} cannot be read: it must be a list in UTF-8, of at '
      f'most {LONGEST:,} bytes'
    )
  lines = data.removeprefix(codecs.BOM_UTF8).splitlines()
  return [line.decode('utf-8', 'surrogateescape') for line in lines]


def split_indices(
  size: int,
  split: str,
  *,
  validation: float = 0.1,
  held_out: str | None = None,
) -> np.ndarray:
  """The members of a split among 0 ... size − 1, ascending, int64 [m].

  Raises:
    ValueError: as `split_places`.
  """
  if held_out is None:
    return _hashed(size, split, validation)
  return split_places(
    range(size), split, validation=validation, held_out=held_out
  )


@functools.lru_cache(maxsize=8)
def _hashed(size: int, split: str, validation: float) -> np.ndarray:
  """Read-only; cached, as a million hashes take seconds."""
  places = split_places(range(size), split, validation=validation)
  places.flags.writeable = False
  return places
