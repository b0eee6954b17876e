"""Regular files: a pipe or a device of that name is never waited for."""

import os
import stat
from typing import IO

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
  """A regular file, for reading.

  Raises:
    ValueError: if it is not a regular file.
    OSError: if it cannot be opened.
  """
  file = os.fdopen(os.open(path, FLAGS), 'rb')
  if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    file.close()
    raise ValueError('it is not a regular file')
  return file


def read_regular(path: str | os.PathLike[str]) -> bytes:
  """The content of a regular file.

  Raises:
    OSError: if there is no such file, or it cannot be read.
  """
  try:
    with open_regular(path) as file:
      return file.read()
  except ValueError as error:
    raise OSError(f'{os.fspath(path)} is not a regular file') from error
