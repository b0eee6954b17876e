"""The pictures of a folder or an archive as they are, all of one size."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowdistill.datasets.catalogue import counted
from flowdistill.datasets.classes import natural
from flowdistill.datasets.files import Files
from flowdistill.datasets.folder import say
from flowdistill.datasets.image_arrays import check_count
from flowdistill.datasets.image_headers import (
  Header,
  codec_of,
  header_of,
  same_size,
)
from flowdistill.datasets.images import decode_whole
from flowdistill.datasets.listing import open_files
from flowdistill.datasets.pictures import run_in_every_thread
from flowdistill.datasets.tree import Tree
from flowdistill.files.generated import MARK, ours

GRID = 'grid.png'  # which `--job=generate` writes beside the samples
NOT_READ = '.heic .heif .jxl .psd .svg .exr .hdr .dng .dds'
OTHERS = frozenset(NOT_READ.split())
"""Endings of pictures that are not read."""


class ImageFiles:
  """Pictures of files, decoded when they are indexed.

  Args:
    files: of the folder or archive.
    names: of the pictures, in order.

  Raises:
    ValueError: if there are not two, one is no picture, or they are not of one
      size.
  """

  def __init__(self, files: Files, names: Sequence[str]):
    check_count(len(names))
    self.files, self.names = files, names
    headers: list[Header] = [Header((0, 0), True, '')] * len(names)
    known: dict[Header, Header] = {}  # a million pictures have a few of them

    def look(row: int, name: str) -> None:
      header = header_of(files.read(name))
      headers[row] = known.setdefault(header, header)

    self._each(names, look)
    width, height = same_size(names, headers)
    channels = 1 if all(header.grey for header in headers) else 3
    self.shape, self.codec = (height, width, channels), codec_of(headers)

  def __call__(self, index: np.ndarray) -> np.ndarray:
    """The pictures at places [b], uint8 [b, h, w, c].

    Raises:
      ValueError: naming one that cannot be read.
    """
    pixels = np.empty((len(index), *self.shape), np.uint8)

    def fill(row: int, name: str) -> None:
      picture = decode_whole(self.files.read(name), self.shape[-1])
      if picture.shape != self.shape:
        raise ValueError('it has another size than before, and was replaced')
      pixels[row] = picture

    self._each([self.names[int(place)] for place in index], fill)
    return pixels

  def _each(
    self, names: Sequence[str], work: Callable[[int, str], None]
  ) -> None:
    """Calls `work(row, name)` in all threads; names the first that fails."""
    rows, broken = iter(range(len(names))), dict[int, str]()

    def run() -> None:
      for row in rows:  # shared by all threads
        try:
          work(row, names[row])
        except (ValueError, OSError) as error:
          broken[row] = str(error)

    run_in_every_thread(run)
    if broken:
      row = min(broken)
      raise ValueError(
        f'{names[row]!r} cannot be read ({broken[row]}), the first of '
        f'{counted(len(broken), "such picture")}; none is left out, as figures '
        'depend on their number: repair or remove it'
      )


def open_image_files(path: str, where: pathlib.Path) -> ImageFiles:
  """The pictures of a folder, a .zip or a .tar, in natural order.

  Of a folder of `--job=generate` these are the samples, without their grid.

  Args:
    path: as it was given.
    where: it is.

  Raises:
    ValueError: as `open_files` or `ImageFiles`; if there is a file that may be
      a picture and cannot be read; or if the samples of that job are not whole.
  """
  files = open_files(path)
  if unread := files.catalogue.unread:
    raise ValueError(
      f'{unread[0]!r} cannot be read, and may be a picture; make it readable, '
      'or remove it'
    )
  check_formats(files.catalogue.left)
  say(f'{path!r}: {files.catalogue.summary()}')
  names = sorted(files.catalogue.names, key=natural)
  if isinstance(files, Tree):
    names = without_grid(names, ours(where))
  return ImageFiles(files, names)


def check_formats(left: Mapping[str, int]) -> None:
  """Refuses pictures that are left out, by their endings."""
  if found := [f'{n:,} {what}' for what, n in left.items() if what in OTHERS]:
    raise ValueError(
      f'it has {", ".join(sorted(found))}, which are pictures that are not '
      'read: save them as PNG, or move them away'
    )


def check_checkpoint(where: pathlib.Path) -> None:
  """Refuses a folder with folders in it that `--job=generate` wrote."""
  folders = sorted(mark.parent for mark in where.glob(f'*/{MARK}'))
  if steps := [str(folder) for folder in folders if ours(folder)]:
    raise ValueError(
      'it must have the samples of one checkpoint; name one of the folders in '
      f'it, such as {steps[0]!r}'
    )


def without_grid(names: list[str], listed: Mapping[str, int]) -> list[str]:
  """The names of samples, if `--job=generate` has listed them.

  Raises:
    ValueError: naming one that is missing, or that it has not written.
  """
  if '.png' not in listed:
    return names
  samples = [f'{k:05d}.png' for k in range(listed['.png'])]
  found = {*names} - ({GRID} if GRID in listed else set())
  if differing := sorted(found ^ {*samples}, key=natural):
    state = 'is missing' if differing[0] in samples else 'is another'
    raise ValueError(
      f'it must have the {len(samples):,} pictures that --job=generate wrote '
      f'into it, and no other; {differing[0]!r} {state}'
    )
  return samples
