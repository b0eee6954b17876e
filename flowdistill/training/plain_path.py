"""A name without special characters for a folder of any name.

Libraries take the characters of a path for patterns or addresses: Orbax 0.12
looks for its own files with `glob`, so that in a folder `lr[1e-3]` it finds
none, and in `a*` those of other folders too; TensorStore reads a backslash as a
slash, `gs:` as a bucket, and paths as UTF-8.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Generator

PLAIN = re.compile(r'[\w/.+=@,-]*', re.ASCII)
LONGEST = 2048  # bytes; the system's limit is 4096, with the names inside
OPEN_FILES = pathlib.Path('/proc/self/fd')


@contextlib.contextmanager
def plain_path(folder: pathlib.Path) -> Generator[pathlib.Path]:
  """`folder` itself if its name is plain, else another name of it.

  That is /proc/self/fd/NUMBER, of the folder held open, while the context is
  open. No other process can use it.

  Raises:
    OSError: if there is no such folder, or no such name on this system.
  """
  name = os.fspath(folder)
  if PLAIN.fullmatch(name) and len(name) < LONGEST:
    yield folder
    return
  if not OPEN_FILES.is_dir():
    raise OSError(
      f'the path {name!r} must have only letters, digits and /._+=@,- on this '
      f'system, where {OPEN_FILES} does not exist: take another --workdir'
    )
  number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
  try:
    yield OPEN_FILES / str(number)
  finally:
    os.close(number)
