"""Examples in an .npz or .npy file, without pickle."""

import functools
import pathlib
from typing import Any

import numpy as np

from flowdistill.datasets.images import to_unit
from flowdistill.datasets.npz import map_npy, read_npz
from flowdistill.datasets.split import indices

NAMES = ('x0', 'label')
AT_ONCE = 2**24  # numbers that are checked at once
Examples = tuple[np.ndarray, np.ndarray | None]


def arrays(
  *,
  path: str = '',
  label: str | None = None,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
) -> 'Rows':
  """The rows of x0: pictures [n, h, w, c] or [n, h, w], or points [n, d].

  They are uint8 in 0 .. 255, which become [-1, 1], or floats, which pictures
  have in [-1, 1]. An .npy is read where it is used, an .npz into memory.

  Args:
    path: of an .npz with `x0` and, if there are classes, `label`, or of an
      .npy, which is x0.
    label: path of an .npy with the classes of an .npy, integers [n] from 0.
    split: 'all', 'train' or 'validation', by a hash of the row's number.
    validation: share of the rows that are held out, in [0, 1].
    held_out: a file with the numbers of the rows that are held out, one a
      line, the first is 0, in place of the hash.

  Raises:
    ValueError: if a file cannot be read, has another type, length or range, or
      an option is out of range.
  """
  x0, labels = read(path, label)
  places = indices(len(x0), split, validation=validation, held_out=held_out)
  return Rows(x0, labels, places)


def read(path: str, label: str | None) -> Examples:
  """(x0 [n, ...], labels int32 [n] or None), checked.

  A file is read and checked once, as long as nobody changes it.
  """
  if not path:
    raise ValueError("path = '' must name an .npz or .npy file")
  stamps = tuple(
    stamp(name, file)
    for name, file in (('path', path), ('label', label))
    if file is not None
  )
  return _read(path, label, stamps)


def stamp(name: str, path: str) -> tuple[int, int]:
  """What changes with a file."""
  where = pathlib.Path(path).expanduser()
  if not where.is_file():
    raise ValueError(f'{name} = {path!r} does not exist')
  found = where.stat()
  return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=2)
def _read(path: str, label: str | None, stamps: Any) -> Examples:
  del stamps
  where = pathlib.Path(path).expanduser()
  if where.suffix not in ('.npz', '.npy'):
    raise ValueError(f'path = {path!r} must end in .npz or .npy')
  if where.suffix == '.npz':
    if label is not None:
      raise ValueError(f'label = {label!r} is for an .npy; an .npz has its own')
    found = read_npz(where, lambda names: {*NAMES}.intersection(names))
  else:
    found = {'x0': map_npy(where)}
    if label is not None:
      found['label'] = map_npy(pathlib.Path(label).expanduser())
  if 'x0' not in found:
    raise ValueError(f'path = {path!r} has no array x0 in it')
  check_x0(found['x0'], path)
  return found['x0'], classes(found.get('label'), len(found['x0']), path)


def check_x0(x0: np.ndarray, path: str) -> None:
  """Refuses rows of another shape, type or range."""
  kind = f'{x0.dtype} {[*x0.shape]}'
  if x0.ndim not in (2, 3, 4) or 0 in x0.shape:
    raise ValueError(
      f'path = {path!r}: x0 is {kind}, it must be [n, h, w, c], [n, h, w] or '
      '[n, d], and not empty'
    )
  if x0.dtype != np.uint8 and x0.dtype.kind != 'f':
    raise ValueError(f'path = {path!r}: x0 is {kind}, not uint8 or float')
  if x0.dtype.kind == 'f':
    check_range(x0, path)


def check_range(x0: np.ndarray, path: str) -> None:
  """Refuses floats that are not finite, and pictures out of [-1, 1]."""
  rows = max(1, AT_ONCE // x0[0].size)
  for first in range(0, len(x0), rows):
    low, high = (f(x0[first : first + rows]) for f in (np.min, np.max))
    if not (np.isfinite(low) and np.isfinite(high)):
      raise ValueError(f'path = {path!r}: x0 has numbers that are not finite')
    if x0.ndim > 2 and (low < -1 or high > 1):
      raise ValueError(
        f'path = {path!r}: x0 has {low:g} and {high:g}; pictures of floats lie '
        'in [-1, 1], those in 0 .. 255 are uint8'
      )


def classes(label: np.ndarray | None, n: int, path: str) -> np.ndarray | None:
  """The classes as int32 [n].

  Raises:
    ValueError: if they are of another type, length or range.
  """
  if label is None:
    return None
  if label.dtype.kind not in 'iu' or label.shape != (n,):
    kind = f'{label.dtype} {[*label.shape]}'
    raise ValueError(
      f'path = {path!r}: label is {kind}, it must be integers [{n}], as x0 has '
      f'{n} rows'
    )
  if label.min() < 0 or label.max() >= 2**31 - 1:
    least, most = label.min(), label.max()
    raise ValueError(
      f'path = {path!r}: label has {least} and {most}, classes count from 0'
    )
  return np.asarray(label, np.int32)


class Rows:
  """Some of the rows of x0, as a `Source` has them.

  Args:
    x0: [n, h, w, c], [n, h, w] or [n, d].
    labels: int32 [n], None for none.
    places: of the rows, [m].
  """

  def __init__(
    self, x0: np.ndarray, labels: np.ndarray | None, places: np.ndarray
  ):
    self.x0 = x0[..., None] if x0.ndim == 3 else x0
    self.places, self.shape = places, self.x0.shape[1:]
    self.labels = None if labels is None else labels[places]
    self.num_classes = 0 if labels is None else int(labels.max()) + 1

  def __len__(self) -> int:
    return len(self.places)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    x0 = np.asarray(self.x0[self.places[index]])
    unit = to_unit(x0) if x0.dtype == np.uint8 else x0.astype(np.float32)
    label = {} if self.labels is None else {'label': self.labels[index]}
    return {'x0': unit, **label}
