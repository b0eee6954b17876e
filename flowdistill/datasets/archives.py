"""Picture files by name, in a folder or an archive, without unpacking to disk.

A file of more than `LARGEST` bytes is refused before it is in memory, whatever
the header of its archive says.
"""

import functools
import os
import pathlib
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Protocol

ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif', '.tif', '.tiff')
LARGEST = 2**28  # bytes of a file, unpacked; more is not a picture
# These are unpacked in pieces of bounded size; with the others a few bytes may
# become gigabytes at once.
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
NOT_UNPACKED = (  # what zipfile raises for a member that it cannot unpack
  zipfile.BadZipFile,
  zlib.error,
  RuntimeError,  # encrypted, or of an unknown compression
)
Stamp = tuple[int, int]


class Files(Protocol):
  """The picture files of a folder or an archive.

  `names` are sorted, with / between folders; `read(name)` works in any thread.
  `stamps` are those of the archive, or of every folder, when it was listed.
  """

  names: list[str]
  stamps: dict[pathlib.Path, Stamp]

  def read(self, name: str) -> bytes: ...


def is_picture(name: str) -> bool:
  """Whether a name has the ending of a picture, and no part of it is hidden."""
  hidden = any(part.startswith('.') for part in name.split('/'))
  return name.lower().endswith(ENDINGS) and not hidden


def stamp_of(path: pathlib.Path) -> Stamp:
  """(modification time, size); (0, 0) for a missing path."""
  try:
    status = path.stat()
  except OSError:
    return 0, 0
  return status.st_mtime_ns, status.st_size


def read_bounded(file: IO[bytes], size: int) -> bytes:
  """The next `size` bytes of a file, and no more, whatever is packed in it.

  Raises:
    ValueError: if they are more than `LARGEST`.
  """
  if size > LARGEST:
    raise ValueError(f'its {size:,} bytes are more than {LARGEST:,}')
  return file.read(size)


class Folder:
  """The pictures below a folder; links to files and folders are followed."""

  def __init__(self, path: pathlib.Path):
    self.path, self.names, self.stamps = path, [], {}
    for name, _, files in os.walk(path, followlinks=True):
      folder = pathlib.Path(name)
      self.stamps[folder] = stamp_of(folder)
      names = ((folder / file).relative_to(path).as_posix() for file in files)
      self.names += filter(is_picture, names)
    self.names.sort()

  def read(self, name: str) -> bytes:
    """The bytes of a file.

    Raises:
      ValueError: if they are more than `LARGEST`.
    """
    with open(self.path / name, 'rb') as file:
      return read_bounded(file, os.fstat(file.fileno()).st_size)


class Zip:
  """The pictures in a zip archive."""

  def __init__(self, path: pathlib.Path):
    self.stamps = {path: stamp_of(path)}
    self.archive, self.lock = zipfile.ZipFile(path), threading.Lock()
    self.names = sorted(filter(is_picture, self.archive.namelist()))

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if it is damaged, encrypted, larger than `LARGEST`, or its
        compression is not one of `PACKINGS`.
    """
    member = self.archive.getinfo(name)
    if member.compress_type not in PACKINGS:
      raise ValueError('its compression is not deflate')
    with self.lock:
      try:
        with self.archive.open(member) as file:
          return read_bounded(file, member.file_size)
      except NOT_UNPACKED as error:
        raise ValueError(str(error)) from error


class Tar:
  """The pictures in an uncompressed tar archive."""

  def __init__(self, path: pathlib.Path):
    self.path, self.stamps = path, {path: stamp_of(path)}
    with tarfile.open(path, 'r:') as archive:
      members = [m for m in archive if m.isfile() and is_picture(m.name)]
    self.extents = {m.name: (m.offset_data, m.size) for m in members}
    self.names = sorted(self.extents)

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if they are more than `LARGEST`.
    """
    start, size = self.extents[name]
    with open(self.path, 'rb') as file:
      file.seek(start)
      return read_bounded(file, size)


ARCHIVES = {'.zip': Zip, '.tar': Tar}


def open_files(path: str) -> Files:
  """The pictures of a folder, a .zip or a .tar.

  It is listed once per process: a folder again when an entry of it, or of a
  folder below it, has been added, removed or renamed (by the modification times
  of all folders), an archive when its modification time or size has changed.

  Raises:
    ValueError: if the path does not exist, is none of these, or has no picture
      in it.
  """
  where = pathlib.Path(path).expanduser()
  if not where.exists():
    raise ValueError(f'path = {path!r} does not exist')
  kind = Folder if where.is_dir() else ARCHIVES.get(where.suffix.lower())
  if kind is None:
    choices = ' or '.join(ARCHIVES)
    raise ValueError(f'path = {path!r} must be a folder, or end in {choices}')
  try:
    files = listing(kind, where.absolute())
  except (tarfile.TarError, zipfile.BadZipFile) as error:
    raise ValueError(f'path = {path!r} cannot be read: {error}') from error
  if not files.names:
    endings = ', '.join(ENDINGS)
    raise ValueError(f'path = {path!r} has no picture ({endings}) in it')
  return files


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
