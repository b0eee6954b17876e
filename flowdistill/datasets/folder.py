"""Pictures of a folder or an archive, read when they are asked for."""

import concurrent.futures
import functools
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from flowdistill.datasets.files import Files, open_files
from flowdistill.datasets.images import MODES, RESIZES, Resize, decode, to_unit
from flowdistill.datasets.split import SPLITS, member


def folder(
  *,
  path: str = '',
  size: int = 64,
  channels: int = 3,
  resize: str = 'centre_crop',
  by_class: bool = False,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
  max_broken: float = 0.01,
) -> 'Pictures':
  """Pictures of a folder, with all below it, or of a .zip or .tar.

  Args:
    path: of it.
    size: of the square that is made of a picture, in pixels.
    channels: 3 for colours, 1 for grey.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    by_class: whether the first folder in a name is its class; classes are
      numbered in the order of their names.
    split: 'all', 'train' or 'validation'; by a hash of the name.
    validation: share of the pictures that are held out, in [0, 1].
    held_out: a file with the names of the validation pictures, one a line, in
      place of the hash.
    max_broken: share of files that may be broken before it is an error.

  Raises:
    ValueError: if there is no picture, or an option is out of range.
  """
  _check(path, size, channels, resize, max_broken)
  files = open_files(path)
  names = members(files.names, split, validation, held_out)
  labels, classes = classes_of(names, files.names) if by_class else (None, 0)
  return Pictures(
    files,
    names,
    labels,
    classes,
    size=size,
    channels=channels,
    resize=RESIZES[resize],
    max_broken=max_broken,
  )


def _check(
  path: str, size: int, channels: int, resize: str, max_broken: float
) -> None:
  if not path:
    raise ValueError("path = '' must name a folder, a .zip or a .tar")
  if size < 1:
    raise ValueError(f'size = {size} must be at least 1')
  if channels not in MODES:
    raise ValueError(f'channels = {channels} must be 1 or 3')
  if resize not in RESIZES:
    choices = ', '.join(RESIZES)
    raise ValueError(f'resize = {resize!r} must be one of {choices}')
  if not 0 <= max_broken <= 1:
    raise ValueError(f'max_broken = {max_broken} must lie in [0, 1]')


def members(
  names: Sequence[str], split: str, validation: float, held_out: str | None
) -> list[str]:
  """The names in a split, in order.

  Raises:
    ValueError: if there are none, or a name in the list is no picture.
  """
  if split not in SPLITS:
    raise ValueError(f'split = {split!r} must be one of {SPLITS}')
  if held_out is None:
    found = [n for n in names if member(n, split, validation=validation)]
  else:
    lines = pathlib.Path(held_out).expanduser().read_text().splitlines()
    listed = set(filter(None, map(str.strip, lines)))
    if missing := sorted(listed - set(names)):
      first = missing[0]
      raise ValueError(f'held_out = {held_out!r}: no picture is {first!r}')
    held = {'all': (True, False), 'train': (False,), 'validation': (True,)}
    found = [n for n in names if (n in listed) in held[split]]
  if not found:
    raise ValueError(f'the split {split!r} of {len(names)} pictures is empty')
  return found


def classes_of(
  names: Sequence[str], every: Sequence[str]
) -> tuple[np.ndarray, int]:
  """(labels int32 [n], number of classes), the same in every split.

  Raises:
    ValueError: if a picture lies in no folder.
  """
  for name in every:
    if '/' not in name:
      raise ValueError(f'by_class = True, and {name!r} is in no folder')
  classes = sorted({name.split('/')[0] for name in every})
  number = {name: k for k, name in enumerate(classes)}
  labels = [number[name.split('/')[0]] for name in names]
  return np.asarray(labels, np.int32), len(classes)


class Pictures:
  """Examples by index, as a `Source` has them, decoded by all cores.

  A file that cannot be read is named in the log once, and the next one that can
  takes its place, so that the order of the others stays what it was.

  Args:
    files: where the bytes come from.
    names: of the files, in order.
    labels: int32 [n], None for none.
    num_classes: 0 without labels.
    size, channels: of a picture.
    resize: the rule.
    max_broken: share of broken files among all, in [0, 1].
  """

  def __init__(
    self,
    files: Files,
    names: Sequence[str],
    labels: np.ndarray | None,
    num_classes: int,
    *,
    size: int,
    channels: int,
    resize: Resize,
    max_broken: float,
  ):
    self.files, self.names, self.labels = files, names, labels
    self.num_classes, self.shape = num_classes, (size, size, channels)
    self.max_broken = max_broken
    self.broken: dict[str, str] = {}
    self._decode = functools.partial(
      decode, size=size, channels=channels, resize=resize
    )
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    index = np.asarray(index)
    found = list(workers().map(self._at, index.reshape(-1).tolist()))
    shape = (*index.shape, *self.shape)
    x0 = np.stack([pixels for _, pixels in found]).reshape(shape)
    if self.labels is None:
      return {'x0': to_unit(x0)}
    taken = np.reshape([place for place, _ in found], index.shape)
    return {'x0': to_unit(x0), 'label': self.labels[taken]}

  def _at(self, index: int) -> tuple[int, np.ndarray]:
    """The picture of an index, or the next that can be read, and its index."""
    for place in range(index, index + len(self)):
      name = self.names[place % len(self)]
      if name not in self.broken:
        try:
          return place % len(self), self._decode(self.files.read(name))
        except (ValueError, OSError) as error:
          self._note(name, str(error))
    raise ValueError(f'none of the {len(self)} pictures can be read')

  def _note(self, name: str, reason: str) -> None:
    with self._lock:
      if name not in self.broken:
        self.broken[name] = reason
        count = len(self.broken)
        logging.warning('%s is left out: %s (%d so far)', name, reason, count)
    limit = self.max_broken * len(self)
    if len(self.broken) > limit:
      listed = ', '.join(sorted(self.broken)[:5])
      raise ValueError(
        f'{len(self.broken)} of {len(self)} pictures cannot be read, more than '
        f'max_broken = {self.max_broken:g} allows, such as {listed}'
      )


@functools.cache
def workers() -> concurrent.futures.Executor:
  """A thread per core; decoding lets go of the interpreter."""
  return concurrent.futures.ThreadPoolExecutor(os.cpu_count())
