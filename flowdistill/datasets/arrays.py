"""Examples in an .npz or .npy file, read without pickle."""

import functools
import pathlib
from typing import Any

import numpy as np

from flowdistill.datasets.images import to_unit
from flowdistill.datasets.npz import map_npy, read_npz
from flowdistill.datasets.split import split_indices
from flowdistill.flow.spec import LABEL, DataSpec

NAMES = ('x0', LABEL)
AT_ONCE = 2**24  # numbers whose range is checked at once
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

  They are uint8 in 0 .. 255, which is scaled to [-1, 1], or floats, in [-1, 1]
  for pictures. An .npy is memory-mapped, an .npz read into memory. The number
  of classes is the largest label plus one; their names are unknown.

  Args:
    path: of an .npz with `x0` and, if there are classes, `label`, or of an
      .npy, which is x0.
    label: path of an .npy with the labels for an .npy, integers [n] from 0.
    split: 'all', 'train' or 'validation', by a hash of the row number.
    validation: share of the rows that are held out, in [0, 1].
    held_out: a file with the numbers of the held-out rows, one per line,
      counted from 0, which replaces the hash.

  Raises:
    ValueError: if a file cannot be read or has another dtype, length or range,
      or an option is out of range.
  """
  x0, labels = checked_examples(path, label)
  places = split_indices(
    len(x0), split, validation=validation, held_out=held_out
  )
  return Rows(x0, labels, places)


def checked_examples(path: str, label: str | None) -> Examples:
  """(x0 [n, ...], labels int32 [n] or None).

  A file is read and checked once, unless it changes.
  """
  if not path:
    raise ValueError("path = '' must name an .npz or .npy file")
  stamps = tuple(
    file_stamp(name, file)
    for name, file in (('path', path), ('label', label))
    if file is not None
  )
  return _read(path, label, stamps)


def file_stamp(name: str, path: str) -> tuple[int, int]:
  """(modification time, size): another one means that the file has changed."""
  where = pathlib.Path(path).expanduser()
  if not where.is_file():
    raise ValueError(f'{name} = {path!r} does not exist')
  status = where.stat()
  return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=2)
def _read(path: str, label: str | None, stamps: Any) -> Examples:
  del stamps
  where = pathlib.Path(path).expanduser()
  if where.suffix not in ('.npz', '.npy'):
    raise ValueError(f'path = {path!r} must end in .npz or .npy')
  if where.suffix == '.npz':
    if label is not None:
      raise ValueError(
        f'label = {label!r} must be None for an .npz, which has its own'
      )
    members = read_npz(where, lambda names: {*NAMES}.intersection(names))
  else:
    members = {'x0': map_npy(where)}
    if label is not None:
      members[LABEL] = map_npy(pathlib.Path(label).expanduser())
  if 'x0' not in members:
    raise ValueError(f'path = {path!r} must have an array x0 in it')
  x0 = members['x0']
  check_x0(x0, path)
  return x0, checked_labels(members.get(LABEL), len(x0), path)


def check_x0(x0: np.ndarray, path: str) -> None:
  """Raises ValueError for another shape, dtype or range."""
  kind = f'{x0.dtype} {[*x0.shape]}'
  if x0.ndim not in (2, 3, 4) or 0 in x0.shape:
    raise ValueError(
      f'path = {path!r}: x0 = {kind} must be [n, h, w, c], [n, h, w] or '
      '[n, d], and not empty'
    )
  if x0.dtype != np.uint8 and x0.dtype.kind != 'f':
    raise ValueError(f'path = {path!r}: x0 = {kind} must be uint8 or float')
  if x0.dtype.kind == 'f':
    check_range(x0, path)


def check_range(x0: np.ndarray, path: str) -> None:
  """Raises ValueError for non-finite floats and pictures outside [-1, 1]."""
  rows = max(1, AT_ONCE // x0[0].size)
  for first in range(0, len(x0), rows):
    low, high = (f(x0[first : first + rows]) for f in (np.min, np.max))
    if not (np.isfinite(low) and np.isfinite(high)):
      raise ValueError(f'path = {path!r}: x0 must be finite everywhere')
    if x0.ndim > 2 and (low < -1 or high > 1):
      raise ValueError(
        f'path = {path!r}: x0 has values from {low:g} to {high:g}; pictures of '
        'floats must lie in [-1, 1], those in 0 .. 255 must be uint8'
      )


def checked_labels(
  label: np.ndarray | None, n: int, path: str
) -> np.ndarray | None:
  """The labels as int32 [n].

  Raises:
    ValueError: for another dtype, length or range.
  """
  if label is None:
    return None
  if label.dtype.kind not in 'iu' or label.shape != (n,):
    kind = f'{label.dtype} {[*label.shape]}'
    raise ValueError(
      f'path = {path!r}: label = {kind} must be integers [{n}], as x0 has {n} '
      'rows'
    )
  if label.min() < 0 or label.max() >= 2**31 - 1:
    least, most = label.min(), label.max()
    raise ValueError(
      f'path = {path!r}: label has values from {least} to {most}; it must '
      'count from 0'
    )
  return np.asarray(label, np.int32)


class Rows:
  """Some of the rows of x0 by index, with random access.

  Args:
    x0: [n, h, w, c], [n, h, w] or [n, d].
    labels: int32 [n], None without classes.
    places: of the rows, [m].
  """

  def __init__(
    self, x0: np.ndarray, labels: np.ndarray | None, places: np.ndarray
  ):
    self.x0 = x0[..., None] if x0.ndim == 3 else x0
    self.places, self.labels = places, labels
    classes = 0 if labels is None else int(labels.max()) + 1
    self.spec = DataSpec.labelled(self.x0.shape[1:], classes)

  def __len__(self) -> int:
    return len(self.places)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    x0 = np.asarray(self.x0[self.places[index]])
    unit = to_unit(x0) if x0.dtype == np.uint8 else x0.astype(np.float32)
    return {'x0': unit, **self.conditions(index)}

  def conditions(self, index: Any) -> dict[str, np.ndarray]:
    """The labels of the examples `index` [b], if there are classes."""
    if self.labels is None:
      return {}
    return {LABEL: self.labels[self.places[index]]}
