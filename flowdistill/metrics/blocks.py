"""Sets of examples or features, taken a block at a time.

Nothing as large as a set is copied: examples may stay in float32 or uint8, and
a block of them becomes float64 when it is used.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 1024
Pair = tuple[slice, slice, np.ndarray, np.ndarray]


def rows(x: np.ndarray, what: str = 'examples') -> np.ndarray:
  """Examples [n, ...] as [n, d], of their own type.

  Args:
    x: numbers of any type.
    what: they are, for errors.

  Raises:
    ValueError: if there are no examples, or a value is not finite.
  """
  x = np.asarray(x)
  if x.ndim < 2 or not x.size:
    raise ValueError(f'{what} [n, ...] with n >= 1 needed, got {x.shape}')
  x = x.reshape(len(x), -1)
  for part, block in blocks(x):
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
      raise ValueError(
        f'the {what} must be finite; those of index '
        f'{part.start + int(finite.argmin())} are not'
      )
  return x


def check_lengths(a: np.ndarray, b: np.ndarray) -> None:
  """Raises ValueError unless [n, d] and [m, d] have the same d."""
  if a.shape[1] != b.shape[1]:
    raise ValueError(f'rows of one length needed, got {a.shape}, {b.shape}')


def blocks(x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
  """The rows of [n, d] in order: which they are, and they in float64."""
  for i in range(0, len(x), BLOCK):
    part = slice(i, min(i + BLOCK, len(x)))
    yield part, np.asarray(x[part], np.float64)


def across(a: np.ndarray, b: np.ndarray) -> Iterator[Pair]:
  """Each block of a [n, d] with each of b [m, d]: (rows of a, of b, x, y)."""
  for i, x in blocks(a):
    for j, y in blocks(b):
      yield i, j, x, y


def within(a: np.ndarray) -> Iterator[Pair]:
  """Each block of a [n, d] with itself and the later ones."""
  for i, x in blocks(a):
    for j, y in blocks(a[i.start :]):
      yield i, slice(i.start + j.start, i.start + j.stop), x, y
