"""The pictures of a folder and of all folders below it."""

import errno
import functools
import os
import pathlib

from flowdistill.datasets.catalogue import Catalogue
from flowdistill.datasets.files import Stamp, read_bounded, stamp_of
from flowdistill.datasets.formats import is_hidden
from flowdistill.files.regular import open_regular


class Tree:
  """The pictures below a folder; links to files and folders are followed.

  Each folder is listed once, by its own path if it has one below the root; a
  link to one that is listed anyway, or that contains the link, is not followed.

  Raises:
    ValueError: naming a folder that cannot be read.
  """

  def __init__(self, path: pathlib.Path):
    self.path, self.catalogue = path, Catalogue()
    self.stamps: dict[pathlib.Path, Stamp] = {}
    self.listed: dict[str, str] = {}  # the real path of a folder -> its name
    self.links: list[str] = []  # to folders, and not yet followed
    self.root = os.path.realpath(path)
    self._walk('', self.root)
    while self.links:
      self.links.sort(reverse=True)
      self._follow(self.links.pop())
    self.catalogue.close()

  def read(self, name: str) -> bytes:
    """The bytes of a file.

    Raises:
      ValueError: if it is not a regular file, or larger than `files.LARGEST`.
    """
    with open_regular(self.path / name) as file:
      return read_bounded(file, os.fstat(file.fileno()).st_size)

  def _walk(self, name: str, real: str) -> None:
    """Lists a folder and all below, but for what links lead to."""
    waiting = [(name, real)]
    while waiting:
      name, real = waiting.pop()
      if real in self.listed:
        self.catalogue.twins[name] = self.listed[real]
        continue
      self.listed[real] = name
      self.catalogue.tops |= {name.split('/')[0]} - {''}
      for entry in self._entries(name):
        child = f'{name}/{entry.name}' if name else entry.name
        if self._is_folder(entry, child):
          waiting.append((child, os.path.join(real, entry.name)))

  def _entries(self, name: str) -> list[os.DirEntry[str]]:
    folder = self.path / name
    self.stamps[folder] = stamp_of(folder)
    try:
      with os.scandir(folder) as entries:
        return list(entries)
    except OSError as error:
      raise ValueError(
        f'path = {str(self.path)!r} has a folder that cannot be read, '
        f'{name or "."!r}: {error.strerror}; make it readable, or remove it'
      ) from error

  def _is_folder(self, entry: os.DirEntry[str], name: str) -> bool:
    """Whether to walk into an entry; a file and a link are noted."""
    if is_hidden(entry.name):
      self.catalogue.leave('hidden')
      return False
    kind = self._kind(entry, name)
    if kind == 'link to a folder':
      self.links.append(name)
    elif kind in ('file', 'link to a file'):
      peek = functools.partial(self._peek, name)
      self.catalogue.add(name, peek, link=kind != 'file')
    elif kind != 'folder':
      self.catalogue.leave(kind)
    return kind == 'folder'

  def _kind(self, entry: os.DirEntry[str], name: str) -> str:
    """What an entry is: 'file', 'link to a folder', ..."""
    try:
      link = 'link to a ' if entry.is_symlink() else ''
      if entry.is_dir():
        return f'{link}folder'
      if entry.is_file():
        return f'{link}file'
      missing = link and not os.path.exists(self.path / name)
      return 'link to nothing' if missing else 'not a regular file'
    except OSError as error:
      if error.errno == errno.ELOOP:
        return 'link in a circle'
      raise ValueError(
        f'path = {str(self.path)!r} has a link that cannot be followed, '
        f'{name!r}: {error.strerror}'
      ) from error

  def _follow(self, name: str) -> None:
    """Lists the folder that a link leads to, unless it is there already."""
    real = os.path.realpath(self.path / name)
    parent = os.path.realpath((self.path / name).parent)
    if any(contains(real, inner) for inner in (parent, self.root)):
      self.catalogue.twins[name] = ''
    elif real in self.listed:
      self.catalogue.twins[name] = self.listed[real]
    else:
      self._walk(name, real)

  def _peek(self, name: str, size: int) -> bytes:
    with open_regular(self.path / name) as file:
      return file.read(size)


def contains(folder: str, path: str) -> bool:
  """Whether a real path is that folder, or below it."""
  return os.path.commonpath([folder, path]) == folder
