"""Pictures by name, in a folder or an archive; nothing is unpacked to disk.

A file of more than `LARGEST` bytes is refused before it is in memory, whatever
the header of its archive says.
"""

import os
import pathlib
import tarfile
import threading
import zipfile
import zlib
from typing import IO, Protocol

ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif', '.tif', '.tiff')
LARGEST = 2**28  # bytes of a file, unpacked; more is no picture
# Those that give a bounded piece at a time; a few bytes of the others may
# become gigabytes at once.
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNPACKED = (  # what zipfile raises for members that cannot be
  zipfile.BadZipFile,
  zlib.error,
  RuntimeError,  # encrypted, or packed in a way that it does not know
)


class Files(Protocol):
  """`names`, sorted, with / between folders; `read(name)` from any thread."""

  names: list[str]

  def read(self, name: str) -> bytes: ...


def is_picture(name: str) -> bool:
  """Whether a name ends as a picture's does, and is not hidden."""
  hidden = any(part.startswith('.') for part in name.split('/'))
  return name.lower().endswith(ENDINGS) and not hidden


def read_bounded(file: IO[bytes], size: int) -> bytes:
  """The next `size` bytes of a file; unpacking makes no more than these.

  Raises:
    ValueError: if they are more than `LARGEST`.
  """
  if size > LARGEST:
    raise ValueError(f'its {size:,} bytes are more than {LARGEST:,}')
  return file.read(size)


class Folder:
  """The pictures below a folder, links to files and folders followed."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.names = sorted(
      name
      for folder, _, files in os.walk(path, followlinks=True)
      for file in files
      if is_picture(
        name := (pathlib.Path(folder, file).relative_to(path)).as_posix()
      )
    )

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
    self.archive, self.lock = zipfile.ZipFile(path), threading.Lock()
    self.names = sorted(filter(is_picture, self.archive.namelist()))

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if it is damaged, encrypted, packed in another way than
        `PACKINGS`, or larger than `LARGEST`.
    """
    found = self.archive.getinfo(name)
    if found.compress_type not in PACKINGS:
      raise ValueError('it is packed in another way than deflate')
    with self.lock:
      try:
        with self.archive.open(found) as file:
          return read_bounded(file, found.file_size)
      except UNPACKED as error:
        raise ValueError(str(error)) from error


class Tar:
  """The pictures in a tar archive, which is not compressed."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    with tarfile.open(path, 'r:') as archive:
      found = [m for m in archive if m.isfile() and is_picture(m.name)]
    self.places = {m.name: (m.offset_data, m.size) for m in found}
    self.names = sorted(self.places)

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if they are more than `LARGEST`.
    """
    start, size = self.places[name]
    with open(self.path, 'rb') as file:
      file.seek(start)
      return read_bounded(file, size)


ARCHIVES = {'.zip': Zip, '.tar': Tar}


def open_files(path: str) -> Files:
  """The pictures of a folder, a .zip or a .tar.

  Raises:
    ValueError: if there is no such path, it is none of these, or has no
      picture in it.
  """
  where = pathlib.Path(path).expanduser()
  if not where.exists():
    raise ValueError(f'path = {path!r} does not exist')
  kind = Folder if where.is_dir() else ARCHIVES.get(where.suffix.lower())
  if kind is None:
    choices = ' or '.join(ARCHIVES)
    raise ValueError(f'path = {path!r} must be a folder, or end in {choices}')
  try:
    files = kind(where)
  except (tarfile.TarError, zipfile.BadZipFile) as error:
    raise ValueError(f'path = {path!r} cannot be read: {error}') from error
  if not files.names:
    endings = ', '.join(ENDINGS)
    raise ValueError(f'path = {path!r} has no picture ({endings}) in it')
  return files
