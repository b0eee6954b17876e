"""The pictures of a .zip or an uncompressed .tar, without unpacking to disk."""

import functools
import pathlib
import stat
import struct
import threading
import zipfile
import zlib

from flowdistill.datasets.catalogue import Catalogue
from flowdistill.datasets.files import read_bounded, stamp_of
from flowdistill.datasets.links import beside, followed, plain
from flowdistill.datasets.tar import Member, members

# These are unpacked in pieces of bounded size; with the others a few bytes may
# become gigabytes at once.
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
NOT_UNPACKED = (  # what zipfile raises for a member that it cannot unpack
  zipfile.BadZipFile,
  zlib.error,
  struct.error,
  EOFError,
  RuntimeError,  # encrypted, or of an unknown compression
)
LINK_SIZE = 4096  # bytes of a link's target; Linux allows no more
NOWHERE = 'link to nothing'
LOCAL = b'PK\3\4'  # a member begins


class Zip:
  """The pictures in a zip archive; links to members are followed."""

  def __init__(self, path: pathlib.Path):
    self.stamps = {path: stamp_of(path)}
    self.archive, self.lock = zipfile.ZipFile(path), threading.Lock()
    self.catalogue = Catalogue()
    self.members: dict[str, zipfile.ZipInfo] = {}
    found = {plain(info.filename): info for info in self._infos(path)}
    links = {
      name: beside(name, self._target(info))
      for name, info in found.items()
      if stat.S_ISLNK(info.external_attr >> 16)
    }
    for name in found:
      end = followed(name, links)
      if end in links or end not in found:
        self.catalogue.leave(NOWHERE)
        continue
      self.members[name] = found[end]
      peek = functools.partial(self._unpack, found[end])
      self.catalogue.add(name, peek, link=name in links)
    self.catalogue.close()

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if it is damaged, encrypted, larger than `files.LARGEST`, or
        its compression is not one of `PACKINGS`.
    """
    member = self.members[name]
    return self._unpack(member, member.file_size)

  def _infos(self, path: pathlib.Path) -> list[zipfile.ZipInfo]:
    """The members, but for folders; those of all of the file.

    Raises:
      zipfile.BadZipFile: if there are members before those that are listed: it
        was cut behind an archive that is in it.
    """
    infos = self.archive.infolist()
    with open(path, 'rb') as file:
      cut = file.read(4) == LOCAL and all(i.header_offset for i in infos)
    if infos and cut:
      raise zipfile.BadZipFile('it is cut: its list of members is missing')
    return [info for info in infos if not info.is_dir()]

  def _target(self, link: zipfile.ZipInfo) -> str:
    try:
      return self._unpack(link, min(link.file_size, LINK_SIZE)).decode()
    except ValueError:
      return ''

  def _unpack(self, member: zipfile.ZipInfo, size: int) -> bytes:
    if member.compress_type not in PACKINGS:
      raise ValueError('its compression is not deflate')
    with self.lock:
      try:
        with self.archive.open(member) as file:
          return read_bounded(file, size)
      except NOT_UNPACKED as error:
        raise ValueError(str(error) or 'it is damaged') from error


class Tar:
  """The pictures in an uncompressed tar archive; links are followed."""

  def __init__(self, path: pathlib.Path):
    self.path, self.stamps = path, {path: stamp_of(path)}
    self.catalogue, found = Catalogue(), {}
    for member in members(path):
      found[plain(member.name)] = member
    links = {name: m.target for name, m in found.items() if m.target}
    self.members: dict[str, Member] = {}
    for name, member in found.items():
      end = found.get(followed(name, links))
      if end is None or end.target:
        self.catalogue.leave(NOWHERE)
      elif not end.regular:
        self.catalogue.leave('not a regular file')
      else:
        self.members[name] = end
        peek = functools.partial(end.read, path)
        self.catalogue.add(name, peek, link=bool(member.target))
    self.catalogue.close()

  def read(self, name: str) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: if they are more than `files.LARGEST`.
    """
    member = self.members[name]
    return member.read(self.path, member.size)
