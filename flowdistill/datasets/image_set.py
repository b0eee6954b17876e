"""Sets of finished images, which are measured without a model.

They are taken as they are stored: nothing is resized or cropped.
"""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.image_arrays import (
  map_image_npy,
  read_image_npz,
)
from flowdistill.datasets.image_files import check_checkpoint, open_image_files
from flowdistill.datasets.image_kinds import FILES, NPY, NPZ, WHAT, kind_of
from flowdistill.files.generated import ours
from flowdistill.files.paths import expand
from flowdistill.flow.pixels import Digest

AT_ONCE = 2**24  # bytes of pixels that are hashed at once


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
  """Images of one size, with random access.

  Attributes:
    path: where they are, as it was given.
    shape: of an image, (h, w, c) with c = 1 or 3.
    names: of the images, with / between folders, in natural order: sample 10
      follows 9. Those of arrays are 'arr_0[7]', or '[7]' of an .npy.
    codec: 'png', 'jpeg', 'webp', ..., 'png and jpeg' of both; 'none' of arrays.
    read: places [b] from 0 on -> uint8 [b, h, w, c].
  """

  path: str
  shape: tuple[int, int, int]
  names: Sequence[str]
  codec: str
  read: Callable[[np.ndarray], np.ndarray]

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: Any) -> np.ndarray:
    """The images at integers [b], as uint8 [b, h, w, c].

    Raises:
      IndexError: for one that does not exist.
      ValueError: naming a file that cannot be read.
    """
    places = np.arange(len(self))[np.asarray(index)]
    if places.ndim != 1:
      raise IndexError(f'an array of integers [b] needed, got {index!r}')
    with located(self.path):
      return np.asarray(self.read(places))

  def digest(self) -> str:
    """The SHA-256 of number, shape and pixels, in hexadecimal digits.

    Equal images have an equal digest, whatever file they are in.
    """
    return self._digest

  @functools.cached_property
  def _digest(self) -> str:
    found = Digest(len(self), self.shape)
    rows = max(1, AT_ONCE // math.prod(self.shape))
    for k in range(0, len(self), rows):
      places = np.arange(k, min(k + rows, len(self)))
      found.update(self[places])
    return f'{found}'


def open_images(path: str) -> ImageSet:
  """The images of a folder, a .zip, a .tar, an .npz or an .npy.

  What it is its content says. Files of pictures are read when they are indexed;
  an .npy is memory-mapped, an .npz held in memory. Of a folder that
  `--job=generate` wrote, its samples are read, without their grid.

  Raises:
    ValueError: that begins with "path = 'PATH'", if it is none of these, is
      damaged, has no images or just one, or they are not of one size, 8 bits
      and 1 or 3 channels.
  """
  if not path:
    raise ValueError(f"path = '' must be {WHAT}")
  where = expand(path, f'path = {path!r}').absolute()
  with located(path):
    if os.path.isdir(where):
      return _of_folder(path, where)
    return KINDS[kind_of(where)](path, where)


def _of_folder(path: str, where: pathlib.Path) -> ImageSet:
  """Of pictures; of their .npz if `--job=generate` wrote nothing else."""
  check_checkpoint(where)
  listed = ours(where)
  if 'samples.npz' in listed and '.png' not in listed:
    return _of_npz(path, where / 'samples.npz')
  return _of_files(path, where)


def _of_files(path: str, where: pathlib.Path) -> ImageSet:
  files = open_image_files(path, where)
  return ImageSet(path, files.shape, files.names, files.codec, files)


def _of_npz(path: str, where: pathlib.Path) -> ImageSet:
  return _of_array(path, *read_image_npz(where))


def _of_npy(path: str, where: pathlib.Path) -> ImageSet:
  return _of_array(path, '', map_image_npy(where))


def _of_array(path: str, name: str, images: np.ndarray) -> ImageSet:
  names = [f'{name}[{k}]' for k in range(len(images))]
  height, width, channels = images.shape[1:]
  shape = height, width, channels
  return ImageSet(path, shape, names, 'none', images.__getitem__)


@contextlib.contextmanager
def located(path: str) -> Generator[None]:
  """Names the path at the beginning of a ValueError."""
  try:
    yield
  except ValueError as error:
    start = f'path = {path!r}'
    if str(error).startswith(start):
      raise
    raise ValueError(f'{start}: {error}') from error


KINDS = {FILES: _of_files, NPZ: _of_npz, NPY: _of_npy}
