"""Pictures that are decoded by all cores when they are asked for."""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from absl import logging

from flowdistill.datasets.images import MODES, RESIZES, decode, to_unit

# One more than cores, as one waits for a file or for the interpreter.
THREADS = (os.cpu_count() or 1) + 1


class Encoded(Protocol):
  """The files of n pictures, by place in 0 ... n − 1, from any thread.

  `labels` are int32 [n], None without classes; `name(place)` is for messages.
  `read(place)` is (the bytes of the file, its class), with any class if there
  are none; it raises ValueError or OSError where there is nothing to be read.
  """

  @property
  def labels(self) -> np.ndarray | None: ...

  def __len__(self) -> int: ...
  def name(self, place: int, /) -> str: ...
  def read(self, place: int, /) -> tuple[bytes, int]: ...


class Pictures:
  """Examples by index, as a `Source` has them.

  A file that cannot be read is named in the log once, and the next one that can
  takes its place, so that the order of the others stays what it was.

  Args:
    encoded: the files.
    num_classes: 0 without labels.
    size: of the square that is made of a picture, in pixels.
    channels: 3 for colours, 1 for grey.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    max_broken: share of broken files among all, in [0, 1].

  Raises:
    ValueError: if an option is out of range.
  """

  def __init__(
    self,
    encoded: Encoded,
    num_classes: int,
    *,
    size: int,
    channels: int,
    resize: str,
    max_broken: float,
  ):
    check(size, channels, resize, max_broken)
    self.encoded, self.num_classes = encoded, num_classes
    self.shape, self.max_broken = (size, size, channels), max_broken
    self.broken: dict[str, str] = {}
    self._decode = functools.partial(
      decode, size=size, channels=channels, resize=RESIZES[resize]
    )
    self._lock = threading.Lock()

  @property
  def labels(self) -> np.ndarray | None:
    """int32 [n], None without classes."""
    return self.encoded.labels

  def __len__(self) -> int:
    return len(self.encoded)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    index = np.asarray(index)
    flat = index.reshape(-1).tolist()
    pixels = np.empty((len(flat), *self.shape), np.uint8)
    labels = np.empty(len(flat), np.int32)
    rows = iter(range(len(flat)))

    def fill() -> None:
      for row in rows:  # of all threads: each takes the next when it is free
        pixels[row], labels[row] = self._at(flat[row])

    together(fill)
    x0 = to_unit(pixels).reshape(*index.shape, *self.shape)
    if not self.num_classes:
      return {'x0': x0}
    label = labels.reshape(index.shape)[()]  # a number for one example
    return {'x0': x0, 'label': label}

  def _at(self, index: int) -> tuple[np.ndarray, int]:
    """The picture of an index, or the next that can be read, and its class."""
    for place in range(index, index + len(self)):
      place %= len(self)
      name = self.encoded.name(place)
      if name not in self.broken:
        try:
          data, label = self.encoded.read(place)
          return self._decode(data), label
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


def check(size: int, channels: int, resize: str, max_broken: float) -> None:
  """Refuses what cannot be made of a picture."""
  if size < 1:
    raise ValueError(f'size = {size} must be at least 1')
  if channels not in MODES:
    raise ValueError(f'channels = {channels} must be 1 or 3')
  if resize not in RESIZES:
    choices = ', '.join(RESIZES)
    raise ValueError(f'resize = {resize!r} must be one of {choices}')
  if not 0 <= max_broken <= 1:
    raise ValueError(f'max_broken = {max_broken} must lie in [0, 1]')


def together(work: Callable[[], None]) -> None:
  """Runs the same in every thread; raises what one of them raises."""
  for running in [workers().submit(work) for _ in range(THREADS)]:
    running.result()


@functools.cache
def workers() -> concurrent.futures.Executor:
  """The threads that decode."""
  return concurrent.futures.ThreadPoolExecutor(THREADS)
