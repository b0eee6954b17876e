"""Pictures by name, in a folder or an archive; nothing is ever unpacked."""

import os
import pathlib
import tarfile
import threading
import zipfile
import zlib
from typing import Protocol

ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif', '.tif', '.tiff')


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
    """The bytes of a file."""
    return (self.path / name).read_bytes()


class Zip:
  """The pictures in a zip archive."""

  def __init__(self, path: pathlib.Path):
    self.archive, self.lock = zipfile.ZipFile(path), threading.Lock()
    self.names = sorted(filter(is_picture, self.archive.namelist()))

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if it is damaged, encrypted, or packed in an unknown way.
    """
    with self.lock:
      try:
        return self.archive.read(name)
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
    """The bytes of a member."""
    start, size = self.places[name]
    with open(self.path, 'rb') as file:
      file.seek(start)
      return file.read(size)


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
