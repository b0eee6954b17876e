"""Which examples are held out: by a hash of their key, the same everywhere.

An example stays in its split when others are added or taken away, on every
machine and in every version of NumPy.
"""

import hashlib

import numpy as np

SPLITS = ('all', 'train', 'validation')


def member(key: int | str, split: str, *, validation: float = 0.1) -> bool:
  """Whether the example of this key belongs to the split.

  Args:
    key: what identifies the example: its index, its file name.
    split: 'all', 'train' or 'validation'; the last two share out the first.
    validation: share of the examples that are held out, in [0, 1].

  Raises:
    ValueError: if there is no such split, or the share is out of range.
  """
  if split not in SPLITS:
    raise ValueError(f'split = {split!r}, it must be one of {SPLITS}')
  if not 0 <= validation <= 1:
    raise ValueError(f'validation = {validation}, it must lie in [0, 1]')
  digest = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
  held_out = int.from_bytes(digest, 'big') < validation * 2**64
  return split == 'all' or held_out == (split == 'validation')


def indices(size: int, split: str, *, validation: float = 0.1) -> np.ndarray:
  """The members of a split among 0 ... size − 1, in order, int64 [m].

  Raises:
    ValueError: as `member`, and if nobody is in it.
  """
  found = [i for i in range(size) if member(i, split, validation=validation)]
  if not found:
    raise ValueError(
      f'the split {split!r} of {size} examples is empty: take more examples '
      "or the split 'all'"
    )
  return np.asarray(found, np.int64)
