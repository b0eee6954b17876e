"""Which examples are held out: by a hash of their key, or by a list.

With the hash, an example stays in its split when others are added or removed,
on every machine and in every version of NumPy.
"""

import functools
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

SPLITS = ('all', 'train', 'validation')


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
  digest = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
  held_out = int.from_bytes(digest, 'big') < validation * 2**64
  return split == 'all' or held_out == (split == 'validation')


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
  out = [is_member(key, 'validation', validation=validation) for key in keys]
  return np.asarray(out, bool)


def listed_keys(path: str, keys: set[str]) -> set[str]:
  """The lines of a file, each of which must be one of `keys`."""
  try:
    lines = pathlib.Path(path).expanduser().read_text('utf-8-sig').splitlines()
  except (OSError, UnicodeError) as error:
    raise ValueError(f'held_out = {path!r} cannot be read: {error}') from error
  listed = set(filter(None, map(str.strip, lines)))
  if missing := sorted(listed - keys):
    raise ValueError(f'held_out = {path!r}: no example is {missing[0]!r}')
  return listed


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
