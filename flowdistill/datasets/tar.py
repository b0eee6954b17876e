"""The members of a tar archive: where they lie, once it is known to be whole.

tarfile takes a damaged header for the end, so that a cut archive looks like a
shorter one, and believes what a header says of its own length.
"""

import dataclasses
import pathlib
import re
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from flowdistill.datasets.files import check_size, read_bounded
from flowdistill.datasets.links import beside, plain
from flowdistill.files.regular import open_regular

BLOCK = tarfile.BLOCKSIZE
HEADER = 2**20  # bytes of a header with all its extensions
CHUNK = 2**20
TAIL = 2**24  # bytes behind the end that are looked at; tar pads by far less
LONG_NUMBER = re.compile(rb'\d{64}')  # on which tarfile spends quadratic time
CUT = (
  'it is cut or damaged at byte {:,}, where there is neither a file nor the '
  'end of an archive; make or copy it again'
)


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
  """A member.

  Attributes:
    name: as it is written, in which bytes that are not UTF-8 are escaped.
    start: of its data, in bytes.
    size: of the file, in bytes.
    regular: whether it is a file.
    target: the name of the member that it is a link to, else ''.
    sparse: (offset, length) of the stored parts of a file with holes.
  """

  name: str
  start: int
  size: int
  regular: bool
  target: str
  sparse: tuple[tuple[int, int], ...] | None

  def read(self, archive: pathlib.Path, size: int) -> bytes:
    """The first `size` bytes.

    Raises:
      ValueError: if they are more than `files.LARGEST`, or its holes overlap.
    """
    with open_regular(archive) as file:
      file.seek(self.start)
      if self.sparse is None:
        return read_bounded(file, min(size, self.size))
      return filled(file, self.size, self.sparse)[:size]


class Bounded:
  """An archive of which tarfile reads no more than a header at once.

  Args:
    file: the archive; only read, told and sought forward.
  """

  def __init__(self, file: IO[bytes]):
    self.file, self.tell, self.seek = file, file.tell, file.seek
    self.last = 0, b''  # where it was read, and what

  def read(self, size: int | None = -1, /) -> bytes:
    """The next bytes; raises tarfile.ReadError if no header is that long."""
    if size is None or not 0 <= size <= HEADER:
      raise tarfile.ReadError(CUT.format(self.tell()))
    place = self.tell()
    data = self.file.read(size) or b''
    self.last = place, data
    if size > BLOCK and LONG_NUMBER.search(data):
      raise tarfile.ReadError(CUT.format(self.tell()))
    return data


def members(path: pathlib.Path) -> list[Member]:
  """The members of an archive but for its folders, in its order.

  Raises:
    tarfile.TarError: if it is cut, damaged, or is followed by something else.
  """
  with open(path, 'rb', buffering=0) as file:
    return list(walk(file))


def walk(file: IO[bytes]) -> Iterator[Member]:
  """The members of an archive but for its folders, in its order.

  The data of a member may be read from the file before the next is asked for.

  Args:
    file: the archive, which is never sought backwards.

  Raises:
    tarfile.TarError: as `members`, once the members before it were yielded.
  """
  bounded, end = Bounded(file), -1
  whole: Any = bounded  # declared as a file with all of its methods
  with tarfile.open(fileobj=whole, mode='r:', encoding='utf-8') as archive:
    listed: Any = archive
    while info := next_of(archive):
      if info.size < 0 or archive.offset <= end:
        raise tarfile.ReadError(CUT.format(info.offset))
      end = archive.offset
      if not info.isdir():
        yield member_of(info)
      listed.members.clear()  # a shard has many
    check_end(bounded, archive.offset)


def next_of(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
  """The next member; raises tarfile.TarError if the last one is cut."""
  try:
    return archive.next()
  except tarfile.ReadError as error:
    if f'{error}' != 'unexpected end of data':
      raise
    raise tarfile.ReadError(CUT.format(archive.offset)) from error


def member_of(info: tarfile.TarInfo) -> Member:
  """A member as tarfile describes it."""
  target = ''
  if info.islnk():
    target = plain(info.linkname)
  elif info.issym():
    target = beside(plain(info.name), info.linkname)
  parts: Any = info.sparse  # declared as bytes
  sparse = tuple(parts) if info.issparse() else None
  return Member(
    info.name, info.offset_data, info.size, info.isfile(), target, sparse
  )


def check_end(file: Bounded, end: int) -> None:
  """Raises tarfile.ReadError unless nothing but zeros begins at byte `end`."""
  if file.last[0] != end:  # otherwise the file is there, and never goes back
    file.seek(end)
    file.read(BLOCK)
  if file.last[1] != bytes(BLOCK):
    raise tarfile.ReadError(CUT.format(end))
  for _ in range(TAIL // CHUNK):
    if not (chunk := file.file.read(CHUNK)):
      break
    if chunk.count(0) != len(chunk):
      raise tarfile.ReadError(
        f'it ends at byte {end:,}, and another archive or other data follow; '
        'unpack it, with `tar --ignore-zeros` if it is several in one file, '
        'and make it again'
      )


def filled(
  file: IO[bytes], size: int, parts: tuple[tuple[int, int], ...]
) -> bytes:
  """A file with holes, of `size` bytes, from its parts in a row."""
  check_size(size)
  data, end = bytearray(size), 0
  for offset, length in parts:
    if length == 0:
      continue  # GNU tar fills its table with these
    if not end <= offset <= offset + length <= size:
      raise ValueError('the parts of this sparse file overlap')
    part, end = file.read(length), offset + length
    data[offset : offset + len(part)] = part
  return bytes(data)
