"""Lists the pictures of a path, once per process."""

import functools
import os
import pathlib
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

from flowdistill.datasets.archives import Tar, Zip
from flowdistill.datasets.files import Files, stamp_of
from flowdistill.datasets.formats import ENDINGS
from flowdistill.datasets.tree import Tree
from flowdistill.files.paths import expand
from flowdistill.files.regular import open_regular

ARCHIVES = {'.zip': Zip, '.tar': Tar}
DAMAGED = (  # what zipfile and tarfile raise for what they cannot list
  zipfile.BadZipFile,
  tarfile.TarError,
  zlib.error,
  struct.error,
  OSError,
  EOFError,
  ValueError,
  LookupError,
  ArithmeticError,
  RuntimeError,
)
COMPRESSED = {  # first bytes -> what unpacks the file
  b'\x1f\x8b': 'gunzip',
  b'\xfd7zXZ\0': 'unxz',
  b'BZh': 'bunzip2',
  b'\x28\xb5\x2f\xfd': 'unzstd',
}


def open_files(path: str) -> Files:
  """The pictures of a folder, a .zip or a .tar.

  It is listed once per process: a folder again when an entry of it, or of a
  folder below it, has been added, removed or renamed (by the modification times
  of all folders), an archive when its modification time or size has changed.

  Raises:
    ValueError: if the path does not exist, is none of these, is damaged, or has
      no picture in it.
  """
  where = expand(path, f'path = {path!r}').absolute()
  kind = Tree if os.path.isdir(where) else archive_of(path, where)
  try:
    files = listing(kind, where)
  except DAMAGED as error:
    if kind is Tree:
      raise
    raise ValueError(f'path = {path!r} cannot be read: {error}') from error
  if not files.catalogue.names:
    endings = ', '.join(sorted(ENDINGS))
    raise ValueError(
      f'path = {path!r} has no picture ({endings}) in it: '
      f'{files.catalogue.summary()}'
    )
  return files


def archive_of(
  path: str, where: pathlib.Path
) -> Callable[[pathlib.Path], Files]:
  """The reader of an archive, by its ending.

  Raises:
    ValueError: for another ending, a compressed file, or one that cannot be
      read.
  """
  try:
    with open_regular(where) as file:
      head = file.read(8)
  except FileNotFoundError as error:
    raise ValueError(f'path = {path!r} does not exist') from error
  except (OSError, ValueError) as error:
    raise ValueError(f'path = {path!r} cannot be read: {error}') from error
  for start, program in COMPRESSED.items():
    if head.startswith(start):
      raise ValueError(
        f'path = {path!r} must be a folder, a .zip or a .tar, and is '
        'compressed as a whole, so that no picture can be read without all '
        f'before it: use `{program}` once, and name the .tar that it writes'
      )
  if where.suffix.lower() not in ARCHIVES:
    choices = ' or '.join(ARCHIVES)
    raise ValueError(f'path = {path!r} must be a folder, or end in {choices}')
  return ARCHIVES[where.suffix.lower()]


def listing(kind: Callable[[pathlib.Path], Files], path: pathlib.Path) -> Files:
  """The files of a path, listed again if it has changed."""
  files = _listed(kind, path)
  if any(stamp_of(where) != stamp for where, stamp in files.stamps.items()):
    _listed.cache_clear()
    files = _listed(kind, path)
  return files


@functools.lru_cache(maxsize=4)
def _listed(kind: Callable[[pathlib.Path], Files], path: pathlib.Path) -> Files:
  return kind(path)
