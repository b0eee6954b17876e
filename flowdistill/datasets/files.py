"""Files by name, in a folder or an archive, without unpacking to disk.

A file of more than `LARGEST` bytes is refused before it is in memory, whatever
the header of its archive says.
"""

import pathlib
from typing import IO, Protocol

from flowdistill.datasets.catalogue import Catalogue

LARGEST = 2**28  # bytes of a file, unpacked; more is not a picture
Stamp = tuple[int, int]


class Files(Protocol):
  """The picture files of a folder or an archive.

  `catalogue.names` are those of the pictures, sorted, with / between folders;
  `read(name)` works in any thread. `stamps` are those of the archive, or of
  every folder, when it was listed.
  """

  catalogue: Catalogue
  stamps: dict[pathlib.Path, Stamp]

  def read(self, name: str) -> bytes: ...


def stamp_of(path: pathlib.Path) -> Stamp:
  """(modification time, size); (0, 0) for a missing path."""
  try:
    status = path.stat()
  except OSError:
    return 0, 0
  return status.st_mtime_ns, status.st_size


def check_size(size: int) -> None:
  """Raises ValueError for more than `LARGEST` bytes."""
  if size > LARGEST:
    raise ValueError(f'its {size:,} bytes are more than {LARGEST:,}')


def read_bounded(file: IO[bytes], size: int) -> bytes:
  """The next `size` bytes of a file, and no more, whatever is packed in it.

  Raises:
    ValueError: if they are more than `LARGEST`.
  """
  check_size(size)
  return file.read(size)
