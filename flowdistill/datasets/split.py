"""Which examples are held out: by a hash of their key, or by a list.

By the hash, an example stays in its split when others are added or taken away,
on every machine and in every version of NumPy.
"""

import functools
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

SPLITS = ('all', 'train', 'validation')


def check(split: str, validation: float) -> None:
  """Refuses a split that does not exist, and a share that is out of range."""
  if split not in SPLITS:
    raise ValueError(f'split = {split!r}, it must be one of {SPLITS}')
  if not 0 <= validation <= 1:
    raise ValueError(f'validation = {validation}, it must lie in [0, 1]')


def member(key: int | str, split: str, *, validation: float = 0.1) -> bool:
  """Whether the example of this key belongs to the split.

  Args:
    key: what identifies the example: its index, its file name.
    split: 'all', 'train' or 'validation'; the last two share out the first.
    validation: share of the examples that are held out, in [0, 1].

  Raises:
    ValueError: if there is no such split, or the share is out of range.
  """
  check(split, validation)
  digest = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
  held_out = int.from_bytes(digest, 'big') < validation * 2**64
  return split == 'all' or held_out == (split == 'validation')


def chosen(
  keys: Sequence[int | str],
  split: str,
  *,
  validation: float = 0.1,
  held_out: str | None = None,
) -> np.ndarray:
  """The places of a split's members among keys, in order, int64 [m].

  Args:
    keys: of all examples.
    split: 'all', 'train' or 'validation'.
    validation: share of the examples that are held out, in [0, 1].
    held_out: a file with the keys that are held out, one a line, in place of
      the hash.

  Raises:
    ValueError: as `member`, if nobody is in it, or a key in the list is none.
  """
  check(split, validation)
  held = _held(keys, split, validation, held_out)
  wanted = {'all': held | True, 'train': ~held, 'validation': held}
  found = np.flatnonzero(wanted[split])
  if not len(found):
    raise ValueError(
      f'the split {split!r} of {len(keys)} examples is empty: take more '
      "examples or the split 'all'"
    )
  return found


def _held(
  keys: Sequence[int | str], split: str, validation: float, held_out: str | None
) -> np.ndarray:
  """Which keys are held out, bool [n]; without a list, nobody asks in 'all'."""
  if held_out is not None:
    out = listed(held_out, {str(key) for key in keys})
    return np.asarray([str(key) in out for key in keys], bool)
  if split == 'all':
    return np.zeros(len(keys), bool)
  out = [member(key, 'validation', validation=validation) for key in keys]
  return np.asarray(out, bool)


def listed(path: str, keys: set[str]) -> set[str]:
  """The lines of a file, each of which must be one of `keys`."""
  try:
    lines = pathlib.Path(path).expanduser().read_text('utf-8').splitlines()
  except (OSError, UnicodeError) as error:
    raise ValueError(f'held_out = {path!r} cannot be read: {error}') from error
  found = set(filter(None, map(str.strip, lines)))
  if missing := sorted(found - keys):
    raise ValueError(f'held_out = {path!r}: no example is {missing[0]!r}')
  return found


def indices(
  size: int,
  split: str,
  *,
  validation: float = 0.1,
  held_out: str | None = None,
) -> np.ndarray:
  """The members of a split among 0 ... size − 1, in order, int64 [m].

  Raises:
    ValueError: as `chosen`.
  """
  if held_out is None:
    return _hashed(size, split, validation)
  return chosen(range(size), split, validation=validation, held_out=held_out)


@functools.lru_cache(maxsize=8)
def _hashed(size: int, split: str, validation: float) -> np.ndarray:
  """A million hashes take seconds, so they are made once; not to be changed."""
  found = chosen(range(size), split, validation=validation)
  found.flags.writeable = False
  return found
