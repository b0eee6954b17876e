"""Examples in an .npz or .npy file, read without pickle."""

import contextlib
import functools
from collections.abc import Generator
from typing import Any

import numpy as np

from flowdistill.datasets.array_files import X0, Names
from flowdistill.datasets.labels import checked_classes, checked_labels
from flowdistill.datasets.split import split_indices
from flowdistill.datasets.value_range import (
  Range,
  checked_range,
  stated_range,
  to_range,
)
from flowdistill.flow.spec import LABEL, DataSpec

LAYOUTS = ('NHWC', 'NCHW')
CHANNELS = (1, 2, 3, 4)  # numbers of channels that images usually have


def arrays(
  *,
  path: str = '',
  x0: str = X0,
  label: str | None = None,
  by_class: bool = True,
  classes: int | tuple[str, ...] | None = None,
  layout: str | None = None,
  range: tuple[float, float] | None = None,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
) -> 'Rows':
  """The rows of x0: pictures [n, h, w, c] or [n, h, w], or points [n, d].

  They become float32, and pictures are scaled to [-1, 1]. An .npy is
  memory-mapped, an .npz read into memory.

  Args:
    path: of an .npz with x0 and, if there are classes, labels, or of an .npy,
      which is x0.
    x0: name of x0 in an .npz.
    label: name of the labels in an .npz, by default 'label'; or for an .npy the
      path of another. They are integers [n] from 0.
    by_class: whether examples have the classes of the labels, if there are any.
    classes: number of classes, or their names; None is the largest label plus
      one, and then each class must have an example.
    layout: axes of four-dimensional x0, 'NHWC' or 'NCHW'; None is NHWC, and
      then an x0 that looks like NCHW or HWCN is refused.
    range: (low, high) of the values of x0, scaled to [-1, 1]. None is (0, 255)
      of uint8 and (-1, 1) of floats, and then images that use no more than
      half of that are refused; points are not scaled.
    split: 'all', 'train' or 'validation', by a hash of the row number.
    validation: share of the rows that are held out, in [0, 1].
    held_out: a file with the numbers of the held-out rows, one per line,
      counted from 0, which replaces the hash.

  Raises:
    ValueError: if a file cannot be read, lacks an array, has another dtype,
      length or range, or an option is out of range.
  """
  if not path:
    raise ValueError("path = '' must name an .npz or .npy file")
  if layout not in (None, *LAYOUTS):
    raise ValueError(f'layout = {layout!r} must be one of {", ".join(LAYOUTS)}')
  names = Names(path, x0, label, by_class)
  range = None if range is None else stated_range(range)
  rows, labels, scale = _read(names, layout, range, names.stamps())
  number, class_names = 0, ()
  if labels is None and classes is not None:
    raise ValueError(f'classes = {classes!r} needs labels: {path!r} has none')
  if labels is not None:
    with located(path):
      number, class_names = checked_classes(labels, classes)
  spec = DataSpec.labelled(rows.shape[1:], number, class_names)
  places = split_indices(
    len(rows), split, validation=validation, held_out=held_out
  )
  return Rows(rows, labels, places, spec, scale)


@functools.lru_cache(maxsize=2)
def _read(
  names: Names, layout: str | None, scale: Range | None, stamps: Any
) -> tuple[np.ndarray, np.ndarray | None, Range | None]:
  """(x0 [n, ...], labels int32 [n] or None, range): read and checked once.

  The files are read again if they have changed.
  """
  del stamps
  x0, labels = names.read()
  with located(names.path):
    check_shape(x0)
    x0 = in_layout(x0, layout)
    scale = checked_range(x0, scale)
    if labels is not None:
      labels = checked_labels(labels, len(x0))
  return x0, labels, scale


@contextlib.contextmanager
def located(path: str) -> Generator[None]:
  """Names the file in a ValueError."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'path = {path!r}: {error}') from error


def check_shape(x0: np.ndarray) -> None:
  """Raises ValueError for another shape, or values that are no numbers."""
  kind = f'x0 = {x0.dtype} {[*x0.shape]}'
  if x0.ndim not in (2, 3, 4) or 0 in x0.shape:
    raise ValueError(
      f'{kind} must be [n, h, w, c], [n, h, w] or [n, d], and not empty'
    )
  if x0.ndim == 3 and x0.shape[2] in CHANNELS:
    raise ValueError(
      f'{kind} looks like one picture [h, w, c]: save x0[None], or '
      'x0[..., None] if it is [n, h, w]'
    )
  if x0.dtype.kind not in 'uifb':
    raise ValueError(f'{kind} must be uint8 or float')


def in_layout(x0: np.ndarray, layout: str | None) -> np.ndarray:
  """x0 as [n, h, w, c] or [n, d].

  Raises:
    ValueError: for a layout of an x0 that has not four axes, or without a
      layout if the last axis can not be that of the channels, but another can.
  """
  kind = f'x0 = {x0.dtype} {[*x0.shape]}'
  if x0.ndim != 4:
    if layout is not None:
      raise ValueError(f'layout = {layout!r} has no effect: {kind}')
    return x0[..., None] if x0.ndim == 3 else x0
  if layout is None:
    _check_channels(x0)
  return x0.transpose(0, 2, 3, 1) if layout == 'NCHW' else x0


def _check_channels(x0: np.ndarray) -> None:
  """Refuses four axes of which another than the last is that of channels."""
  second, third, last = (size in CHANNELS for size in x0.shape[1:])
  if last or not (second or third):
    return
  kind = f'x0 = {x0.dtype} {[*x0.shape]}'
  like, change = '[h, w, c, n]', 'save x0.transpose(3, 0, 1, 2)'
  if second:
    like, change = '[n, c, h, w]', "set layout = 'NCHW'"
  raise ValueError(
    f"{kind} looks like {like}: {change}, or set layout = 'NHWC' if it is "
    f'[n, h, w, c] with {x0.shape[3]} channels'
  )


class Rows:
  """Some of the rows of x0 by index, with random access.

  Args:
    x0: [n, h, w, c] or [n, d].
    labels: int32 [n], None without classes.
    places: of the rows, [m].
    spec: of an example.
    scale: the range of x0 that is scaled to [-1, 1]; None scales nothing.
  """

  def __init__(
    self,
    x0: np.ndarray,
    labels: np.ndarray | None,
    places: np.ndarray,
    spec: DataSpec,
    scale: Range | None,
  ):
    self.x0, self.labels, self.places = x0, labels, places
    self.spec, self.scale = spec, scale

  def __len__(self) -> int:
    return len(self.places)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    x0 = np.asarray(self.x0[self.places[index]])
    return {X0: to_range(x0, self.scale), **self.conditions(index)}

  def conditions(self, index: Any) -> dict[str, np.ndarray]:
    """The labels of the examples `index` [b], if there are classes."""
    if self.labels is None:
      return {}
    return {LABEL: self.labels[self.places[index]]}
