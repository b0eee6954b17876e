"""A file that is read from its beginning on, however often it breaks off.

Where a read fails, the file is opened again at the same byte after a while that
doubles. Errors that waiting cannot mend are raised at once.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from absl import logging

from flowdistill.datasets.shard_paths import PIPE, is_local

TRIES = 6  # at the same byte
WAIT = 1.0  # seconds before the second try
STALL = 30.0  # seconds without a byte
CHUNK = 2**20  # bytes
BLOCK = 2**22  # bytes of a request
AGAIN = (408, 425, 429)  # 4xx of HTTP that are no mistake of ours
REDIRECTS = (  # of aiohttp: to file:, ftp: and the like
  'NonHttpUrlRedirectClientError',
  'InvalidUrlRedirectClientError',
)
NO_RANGES = 'support range requests'  # in what fsspec says
_said: set[str] = set()


class Retried:
  """A file of bytes that is only read forwards.

  Args:
    name: of it, for messages.
    open_file: opens it at its beginning, to be read by ranges or as a whole.
    wait: seconds before the second try.
  """

  def __init__(
    self, name: str, open_file: Callable[[bool], IO[bytes]], wait: float = WAIT
  ):
    self.name, self._open_file, self._wait = name, open_file, wait
    self.place, self._ranges = 0, True
    self._file: IO[bytes] | None = None
    self._at = 0  # of the open file

  def tell(self) -> int:
    """The byte that is read next."""
    return self.place

  def seek(self, place: int, whence: int = 0) -> int:
    """Goes forward to a byte, which is read over when the next is read.

    Raises:
      ValueError: for a byte before the current one.
    """
    if whence or place < self.place:
      raise ValueError(f'{self.name} is only read forwards')
    self.place = place
    return place

  def read(self, size: int) -> bytes:
    """The next `size` bytes, fewer at the end of the file.

    Raises:
      OSError: naming the file, after `TRIES` tries.
      ValueError: if it cannot be read, whatever is waited.
    """
    parts: list[bytes] = []
    while size and (part := self._part(min(size, CHUNK))):
      self.place += len(part)
      self._at += len(part)
      size -= len(part)
      parts.append(part)
    return parts[0] if len(parts) == 1 else b''.join(parts)

  def close(self) -> None:
    """Closes the file."""
    file, self._file = self._file, None
    if file is not None:
      file.close()

  def _part(self, size: int) -> bytes:
    for attempt in range(1, TRIES + 1):
      try:
        return self._try(size)
      # Each file system has errors of its own.
      except Exception as error:  # noqa: BLE001
        self._failed(error, attempt)
    raise AssertionError

  def _try(self, size: int) -> bytes:
    if self._file is None:
      self._file, self._at = self._open_file(self._ranges), 0
    skip(self._file, self._at, self.place)
    self._at = self.place
    part = self._file.read(size)
    whole = getattr(self._file, 'size', None)
    if not part and isinstance(whole, int) and self.place < whole:
      raise OSError(f'it ended at byte {self.place:,} of {whole:,}')
    return part

  def _failed(self, error: Exception, attempt: int) -> None:
    """Waits for the next try, or raises the error."""
    with contextlib.suppress(OSError, ValueError):  # it is broken
      self.close()
    reason = reason_of(error)
    if NO_RANGES in reason and self._ranges and attempt < TRIES:
      self._ranges = False  # now it is known, and nothing was broken
      return
    if lasting(error):
      raise ValueError(f'{self.name} cannot be read: {reason}') from error
    if attempt == TRIES:
      raise OSError(
        f'{self.name} cannot be read at byte {self.place:,}, after {TRIES} '
        f'tries: {reason}'
      ) from error
    if self.name not in _said:
      _said.add(self.name)
      logging.warning(
        '%s failed at byte %d, and is tried again: %s',
        self.name,
        self.place,
        reason,
      )
    time.sleep(self._wait * 2 ** (attempt - 1))


def skip(file: IO[bytes], at: int, place: int) -> None:
  """Goes from byte `at` forward to `place`."""
  if at == place:
    return
  try:
    file.seek(place)
    return
  except (OSError, ValueError, AttributeError):
    pass  # a pipe, or a server without ranges
  while at < place:
    part = file.read(min(place - at, CHUNK))
    if not part:
      return  # beyond its end, where nothing is read
    at += len(part)


def causes(error: BaseException | None) -> Iterator[BaseException]:
  """An error and what it was raised from; fsspec hides what happened."""
  while error is not None:
    yield error
    error = error.__cause__


def lasting(error: Exception) -> bool:
  """Whether waiting does not help: it is not there, or leads elsewhere."""
  for cause in causes(error):
    status = getattr(cause, 'status', None)
    if isinstance(status, int):
      return 400 <= status < 500 and status not in AGAIN
    if type(cause).__name__ in ('InvalidURL', *REDIRECTS):
      return True
  kinds = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError)
  return isinstance(error, kinds) and error.__cause__ is None


def reason_of(error: Exception) -> str:
  """What happened, in the words of the first cause."""
  *_, first = causes(error)
  if isinstance(first, ImportError):
    return f"{first}; pip install 'flowdistill[remote]'"
  if type(first).__name__ in REDIRECTS:
    return f'it redirects to {first}, which is no http'
  return (
    f'{type(first).__name__}: {first}' if f'{first}' else type(first).__name__
  )


def open_shard(shard: str, ranges: bool = True) -> IO[bytes]:
  """A shard, at its beginning.

  Args:
    shard: its path.
    ranges: whether a server is asked for parts of it.

  Raises:
    OSError: if it cannot be opened; and what fsspec raises.
  """
  if shard.startswith(PIPE):
    from flowdistill.datasets.command_output import CommandOutput

    output: Any = CommandOutput(shard.removeprefix(PIPE), STALL)
    return output
  if is_local(shard):
    return open(shard, 'rb', buffering=CHUNK)
  import fsspec

  options = {}
  if shard.startswith('http'):
    import fsspec.implementations.http as http

    timeout = http.aiohttp.ClientTimeout(
      total=None, sock_connect=STALL, sock_read=STALL
    )
    options = {'client_kwargs': {'timeout': timeout}}
  system, path = fsspec.url_to_fs(shard, **options)
  size = BLOCK if ranges else 0
  return system.open(path, 'rb', block_size=size, cache_type='readahead')
