"""Standard output and error that never end a job.

The reader of a pipe may leave (`| head`), a terminal close, a disk be full, and
the encoding lack a letter. None of this is a reason to end a training.
"""

import contextlib
import io
import logging
import os
import sys
from typing import Any, TextIO

from absl import logging as absl_logging


class Lasting(io.FileIO):
  """An open file descriptor; what it cannot take is lost without an error."""

  def write(self, data: Any, /) -> int:
    """Writes bytes; returns how many there were."""
    view = memoryview(data).cast('B')
    rest = len(view)
    with contextlib.suppress(OSError):
      while rest and (written := super().write(view[-rest:])):
        rest -= written
    return len(view)


def open_missing() -> None:
  """Opens /dev/null for those of the three streams that are closed.

  It is called first of all: files and sockets would get their descriptors.
  """
  for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
    if getattr(sys, name) is None:
      setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def keep_streams() -> None:
  """Replaces sys.stdout and sys.stderr by streams that are `lasting`.

  A stream without a descriptor, as of a notebook or a test, stays as it is.
  """
  old = sys.stdout, sys.stderr
  with contextlib.suppress(io.UnsupportedOperation):
    sys.stdout = lasting(sys.stdout)
  with contextlib.suppress(io.UnsupportedOperation):
    sys.stderr = lasting(sys.stderr)
  absl = absl_logging.get_absl_handler().python_handler
  for handler in (absl, *logging.root.handlers):
    if isinstance(handler, logging.StreamHandler) and handler.stream in old:
      handler.setStream(sys.stderr)


def lasting(stream: TextIO) -> io.TextIOWrapper:
  """A text stream to the same descriptor that raises nothing when written to.

  A letter that its encoding lacks is written as in Python, such as \\u03c3.
  """
  raw = Lasting(stream.fileno(), 'w', closefd=False)
  return io.TextIOWrapper(
    io.BufferedWriter(raw),
    encoding=stream.encoding,
    errors='backslashreplace',
    line_buffering=raw.isatty() or stream is sys.stderr,
  )
