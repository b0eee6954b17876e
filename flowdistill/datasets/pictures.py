"""Pictures that all cores decode when they are indexed."""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from absl import logging

from flowdistill.datasets.buckets import Buckets, Shape, about, nearest
from flowdistill.datasets.decoders import (
  Decoder,
  check_pixels,
  generators,
  in_buckets,
)
from flowdistill.datasets.image_headers import shape_of

SAID = 3  # broken files that an error names
# One more than cores, as one waits for a file or for the interpreter lock.
THREADS = (os.cpu_count() or 1) + 1


class Encoded(Protocol):
  """The files of n pictures, by place in 0 ... n − 1, from any thread.

  `read(place)` returns the bytes of a file and the conditions of its picture,
  by name; it raises ValueError or OSError if it cannot be read.
  `conditions(places)` returns the conditions only, [b, ...]; `name(place)` is
  for messages.
  """

  def __len__(self) -> int: ...
  def name(self, place: int, /) -> str: ...
  def read(self, place: int, /) -> tuple[bytes, Mapping[str, Any]]: ...
  def conditions(self, places: np.ndarray, /) -> dict[str, np.ndarray]: ...


class Pictures:
  """Pictures, or latents, by index, with random access.

  A file that cannot be read is named in the log once, and the next readable one
  takes its place, so that the order of the others does not change.

  Args:
    encoded: the files.
    decoder: of the files; its spec has their conditions, too.
    max_broken: largest share of unreadable files, in [0, 1].
    buckets: the rule for the shapes of batches of training; None makes squares.
    shapes: (height, width) of the pictures, int [n, 2], where they are known;
      zeros where not.

  Raises:
    ValueError: if an option is out of range.
  """

  def __init__(
    self,
    encoded: Encoded,
    decoder: Decoder,
    *,
    max_broken: float,
    buckets: Buckets | None = None,
    shapes: np.ndarray | None = None,
  ):
    check_share(max_broken)
    self.encoded, self.decoder, self.max_broken = encoded, decoder, max_broken
    self.spec, self.pictures = decoder.spec, decoder.pictures
    self._croppers = None if buckets is None else in_buckets(decoder, buckets)
    self._shapes = shapes
    self.broken: dict[str, str] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self.encoded)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One example for an int, a batch of them for an array of ints [b]."""
    return self._examples(np.asarray(index), self.decoder, self.decoder.finish)

  @property
  def buckets(self) -> list[Shape] | None:
    """(height, width) of each bucket, the square first; None without any."""
    if self._croppers is None:
      return None
    shapes = [cropper.shape for cropper in self._croppers]
    return [(height, width) for height, width, _ in shapes]

  def cropped(self, index: np.ndarray, bucket: int) -> dict[str, np.ndarray]:
    """The examples `index` [b], cropped to the shape of a bucket."""
    if self._croppers is None:
      raise ValueError('these pictures have no buckets')
    cropper = self._croppers[bucket]
    return self._examples(index, cropper, cropper.finish)

  @functools.cached_property
  def bucket_of(self) -> np.ndarray:
    """The bucket of each picture, int [n], by the headers of those not known.

    A file without a readable one counts as broken, and as square.
    """
    known = self._shapes
    if known is None:
      known = np.zeros((len(self), 2), int)
    sizes = np.maximum(known, 1)
    rows = iter(np.flatnonzero(known[:, 0] == 0).tolist())

    def look() -> None:
      for row in rows:  # shared by all threads
        try:
          sizes[row] = shape_of(self.encoded.read(row)[0])
        except (ValueError, OSError) as error:
          self._note(self.encoded.name(row), str(error))

    run_in_every_thread(look)
    shapes = self.buckets or [(1, 1)]
    numbers = nearest(shapes, sizes)
    logging.info('%s', about(shapes, numbers))
    return numbers

  @property
  def draw(self) -> Callable[..., dict[str, np.ndarray]] | None:
    """draw(index [b], epoch [b], seed) of random latents, None of pictures."""
    if (decode := self.decoder.draw) is None:
      return None

    def drawn(
      index: np.ndarray, epoch: np.ndarray, seed: int
    ) -> dict[str, np.ndarray]:
      keys = [*zip(epoch.tolist(), index.tolist(), strict=True)]
      return self._examples(
        index, self.decoder, lambda rows: decode(rows, generators(seed, keys))
      )

    return drawn

  @property
  def manifest(self) -> Mapping[str, Any]:
    """What latents are of."""
    return self.decoder.manifest

  def _examples(
    self,
    index: np.ndarray,
    decoder: Decoder,
    finish: Callable[[np.ndarray], np.ndarray],
  ) -> dict[str, np.ndarray]:
    """The examples at an index of any shape, each read in any thread."""
    flat = index.reshape(-1).tolist()
    decoded = np.empty((len(flat), *decoder.shape), decoder.dtype)
    conditions = {k: c.full(len(flat)) for k, c in self.spec.cond.items()}
    rows = iter(range(len(flat)))

    def fill() -> None:
      for row in rows:  # shared by all threads: a free one takes the next row
        decoded[row], values = self._at(flat[row], decoder)
        for name, array in conditions.items():
          array[row] = values[name]

    run_in_every_thread(fill)
    arrays = {'x0': finish(decoded), **conditions}
    # [()] turns the label of one example into a scalar.
    return {
      k: a.reshape(index.shape + a.shape[1:])[()] for k, a in arrays.items()
    }

  def conditions(self, index: Any) -> dict[str, np.ndarray]:
    """The conditions of the pictures `index` [b], readable or not."""
    return self.encoded.conditions(np.asarray(index))

  def _at(
    self, index: int, decoder: Decoder
  ) -> tuple[np.ndarray, Mapping[str, Any]]:
    """The first readable picture from an index on, and its conditions."""
    for place in range(index, index + len(self)):
      place %= len(self)
      name = self.encoded.name(place)
      if name not in self.broken:
        try:
          data, conditions = self.encoded.read(place)
          return decoder.decode(data), conditions
        except (ValueError, OSError) as error:
          self._note(name, str(error))
    raise ValueError(
      f'none of the {len(self)} pictures can be read, such as {self._some()}'
    )

  def _note(self, name: str, reason: str) -> None:
    with self._lock:
      if name not in self.broken:
        self.broken[name] = reason
        count = len(self.broken)
        logging.warning('%r is left out: %s (%d so far)', name, reason, count)
    limit = self.max_broken * len(self)
    if len(self.broken) > limit:
      raise ValueError(
        f'{len(self.broken)} of {len(self)} pictures cannot be read, more than '
        f'max_broken = {self.max_broken:g} allows, such as {self._some()}'
      )

  def _some(self) -> str:
    """Some of the broken files, and why they cannot be read."""
    some = sorted(self.broken.items())[:SAID]
    return ', '.join(f'{name!r} ({reason})' for name, reason in some)


def check(size: int, channels: int, resize: str, max_broken: float) -> None:
  """Raises ValueError for an option that is out of range."""
  check_pixels(size, channels, resize)
  check_share(max_broken)


def check_share(max_broken: float) -> None:
  """Raises ValueError for a share that is none."""
  if not 0 <= max_broken <= 1:
    raise ValueError(f'max_broken = {max_broken} must lie in [0, 1]')


def run_in_every_thread(work: Callable[[], None]) -> None:
  """Runs the same function in all threads at once; raises their first error."""
  for running in [workers().submit(work) for _ in range(THREADS)]:
    running.result()


@functools.cache
def workers() -> concurrent.futures.Executor:
  """The threads that decode."""
  return concurrent.futures.ThreadPoolExecutor(THREADS)
