"""Files that are replaced whole, and never through a link.

A new file is written under a random name in the folder of the old one, which
nobody can have prepared (O_EXCL), synced, and renamed: whenever a process is
killed or the power fails, a reader finds the old file or the new one. What
killed processes leave is removed by `remove_leftovers`.
"""

import contextlib
import os
import pathlib
import re
import secrets
import time
from collections.abc import Generator
from typing import BinaryIO

TEMPORARY = re.compile(r'\.[0-9a-f]{16}\.tmp')
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DAY = 86400.0  # seconds
AT_END = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
  """A new file that takes the place of `path` when the context ends.

  If the context raises, the old file stays as it is. A link of that name is
  replaced, not followed. The folder must exist.

  Raises:
    OSError: that names `path`, such as on a full disk.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{secrets.token_hex(8)}.tmp')
  with naming(path):
    file = os.fdopen(os.open(temporary, NEW, 0o666), 'wb')
    try:
      with file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      temporary.unlink(missing_ok=True)
      raise
    sync_folder(path.parent)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
  """Replaces a file by `data`; see `replacing`."""
  with replacing(path) as file:
    file.write(data)


def create(path: pathlib.Path) -> BinaryIO:
  """A new file of a fixed name; one that a killed process left is removed."""
  path.unlink(missing_ok=True)
  return os.fdopen(os.open(path, NEW, 0o666), 'wb')


def append(path: pathlib.Path) -> BinaryIO:
  """A file to append to.

  Raises:
    OSError: if it is a link, which is not followed.
  """
  # Its `name` is the path, as errors say it; that of os.fdopen is a number.
  return open(path, 'ab', opener=lambda file, _: os.open(file, AT_END, 0o666))


def sync_folder(folder: pathlib.Path) -> None:
  """Makes a rename survive a power loss, where the file system can."""
  with contextlib.suppress(OSError):
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
      os.fsync(number)
    finally:
      os.close(number)


def remove_leftovers(folder: pathlib.Path, age: float = 0.0) -> None:
  """Removes the temporary files that killed processes left in a folder.

  Those in its folders go too, unless `age` is 0.

  Args:
    folder: to search.
    age: seconds that they have at least. A younger one may be of a process that
      is writing; 0 is for a folder to which nobody else writes.
  """
  now = time.time()
  for where, folders, names in os.walk(folder):  # one that vanishes is no error
    for path in (pathlib.Path(where, n) for n in names if _is_temporary(n)):
      with contextlib.suppress(OSError):
        if not age or path.lstat().st_mtime < now - age:
          path.unlink()
    if not age:
      folders.clear()


def _is_temporary(name: str) -> bool:
  return TEMPORARY.fullmatch(name) is not None


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Generator[None]:
  """Adds the file to an OSError without one, as 'No space left on device'.

  The random name of a temporary file says nothing: `path` takes its place.
  """
  try:
    yield
  except OSError as error:
    name = error.filename
    unnamed = name is None and error.errno is not None  # else it is a sentence
    if unnamed or _is_temporary(os.path.basename(os.fsdecode(name or ''))):
      error.filename = os.fspath(path)
      if error.filename2 is not None:
        del error.filename2  # None would be shown, as "-> None"
    raise
