"""A lock on a folder, held while a job writes to it.

FOLDER/.lock says who holds it: host, process, job, and since when. Only readers
need none: `generate`, `plan`, `load()`, and `replay`, which writes nothing.

folder                   held by                            a second one
W/<stage>/               `train`, `compare`, and `pairs`    is refused
                         of a stage of that kind, in all
                         stages that they run
the folder of pairs      whatever makes them                is refused
W/<stage>/evaluations/   `evaluate`, while it writes rows   waits

`evaluate` beside a training of the same stage, with --steps=wait, is therefore
possible, and so are several of it: their rows are merged, and pictures are
replaced whole.

A lock that is left by a killed process is taken over, with a line that says so.
On the same machine its number and its start time tell whether it still runs.
From another machine, through a shared folder, its heartbeat is watched: the
lock is rewritten every BEAT seconds, and one that does not change within
PATIENCE seconds of our own clock is stale; clocks are never compared. A process
that was frozen for longer finds that its lock was taken over, and ends at once.
The lock is created with O_EXCL, which NFS supports, and a stale one is removed
under the guard of a folder; flock is not used.

Of several hosts of one run the first holds the lock for all.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import secrets
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Self

import jax

from flowdistill.config.bind import ConfigError
from flowdistill.files.atomic import DAY, NEW, remove_leftovers
from flowdistill.files.json_reader import DamagedFileError, parse_json
from flowdistill.files.regular import read_regular
from flowdistill.training.watchdog import give_up
from flowdistill.workdir.process import Process
from flowdistill.workdir.results import say

LOCK, GUARD = '.lock', '.lock.guard'
BEAT, PATIENCE = 5.0, 60.0  # seconds
SIZE = 1024  # bytes of the file, which is written in place on a full disk too
PAUSE = 0.05  # seconds between two looks at the lock of another
HELD: 'set[Lock]' = set()


@contextlib.contextmanager
def locked(
  folder: pathlib.Path, job: str, *, wait: float = 0.0
) -> Generator[None]:
  """Holds the lock of a folder, on the first host; see `Lock`.

  A folder in which nothing can be written needs no lock.
  """
  read_only = folder.is_dir() and not os.access(folder, os.W_OK)
  if jax.process_index() or read_only:
    yield
    return
  with Lock(folder, job, wait=wait):
    yield


def release_all() -> None:
  """Releases the locks of this process, which is about to end."""
  for lock in list(HELD):
    lock.release()


@dataclasses.dataclass(frozen=True)
class Note:
  """What a lock says.

  Attributes:
    content: of the file, which changes with every heartbeat.
    token: the same in all contents of one holder.
    process: that holds it; None if the file does not tell.
    job: that it does.
    since: when it began, with the offset from UTC.
  """

  content: bytes
  token: str
  process: Process | None = None
  job: str = ''
  since: str = ''

  def __str__(self) -> str:
    if self.process is None:
      return 'a process that its lock does not name'
    return f'{self.process} (--job={self.job}, since {self.since})'


def read_note(path: pathlib.Path) -> Note | None:
  """What a lock says; None if there is none."""
  try:
    content = read_regular(path)
  except FileNotFoundError:
    return Note(b'', 'a link') if path.is_symlink() else None
  try:
    return Note(content, **_fields(parse_json(content, path)))
  except (DamagedFileError, KeyError, TypeError):
    return Note(content, f'{content!r}')  # it is being created, or damaged


def _fields(record: dict[str, Any]) -> dict[str, Any]:
  process = Process(**record['process'])
  if not 0 < process.pid < 2**31:
    raise TypeError(f'{process.pid} is no number of a process')
  return {
    'process': process,
    **{key: str(record[key]) for key in ('token', 'job', 'since')},
  }


def _remove_guard(guard: pathlib.Path) -> None:
  with contextlib.suppress(FileNotFoundError):
    guard.rmdir()


class Lock:
  """The lock of a folder while it is open.

  Args:
    folder: created if it does not exist.
    job: that is going to write, for those who are refused.
    wait: seconds to wait for a holder that lives.
    beat: seconds between two heartbeats.
    patience: seconds without a heartbeat after which a process on another
      machine counts as dead.
    on_lost: called with a message if another has taken the lock over.

  Raises:
    ConfigError: if a process that lives holds it.
    OSError: if the lock cannot be written.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    job: str,
    *,
    wait: float = 0.0,
    beat: float = BEAT,
    patience: float = PATIENCE,
    on_lost: Callable[[str], Any] = give_up,
  ):
    self.folder, self.path, self.job = folder, folder / LOCK, job
    self.wait, self.beat, self.patience = wait, beat, patience
    self.on_lost = on_lost
    self.token, self._file, self._beats = secrets.token_hex(8), -1, 0
    self._pid, self._guarded = os.getpid(), 0.0
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._live, daemon=True)

  def __enter__(self) -> Self:
    HELD.add(self)  # first of all, for a signal may come at any moment
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      self._acquire()
      remove_leftovers(self.folder)
      remove_leftovers(self.folder, DAY)
      self._thread.start()
    except BaseException:
      self.release()
      raise
    return self

  def __exit__(self, *_: object) -> None:
    self.release()

  def release(self) -> None:
    """Removes the lock, if it still is ours."""
    self._end.set()
    if self not in HELD or os.getpid() != self._pid:  # it may have been forked
      return
    HELD.discard(self)
    if self._file < 0:
      return
    with contextlib.suppress(OSError):
      if os.path.samestat(os.fstat(self._file), os.lstat(self.path)):
        self.path.unlink()
    if self._thread.is_alive():
      self._thread.join(self.beat)
    if not self._thread.is_alive():  # it writes to that file
      os.close(self._file)

  def _acquire(self) -> None:
    end = time.monotonic() + self.wait
    while not self._create():
      note = read_note(self.path)
      if note and (why := self._death(note)):
        self._take_over(note, why)
      elif time.monotonic() > end and (note := read_note(self.path)):
        raise ConfigError(
          f'{self.folder} is in use: {note} writes there. Wait until it has '
          'ended, or end it; or take another --workdir. If nothing runs any '
          f'more, remove {self.path}'
        )
      else:
        time.sleep(PAUSE)

  def _create(self) -> bool:
    """Whether there was no lock, and now is ours."""
    try:
      self._file = os.open(self.path, NEW, 0o666)
    except FileExistsError:
      return False
    now = datetime.datetime.now().astimezone()
    self.since = now.isoformat(' ', 'seconds')
    try:
      self._write()
    except OSError as error:  # such as a full disk
      error.filename = os.fspath(self.path)
      raise
    return True

  def _write(self) -> None:
    """Writes the lock in place; through its open file, so to no other."""
    record = {
      'job': self.job,
      'process': dataclasses.asdict(Process.this()),
      'since': self.since,
      'token': self.token,
      'beats': self._beats,
    }
    text = json.dumps(record, indent=2).encode()
    os.pwrite(self._file, text.ljust(SIZE - 1) + b'\n', 0)
    os.fsync(self._file)

  def _death(self, note: Note) -> str:
    """Why the holder is dead, '' if it lives or has just released its lock."""
    if note.process and note.process.is_here:
      return 'has ended' if note.process.has_ended else ''
    if self._changes(note, 4 * PAUSE):  # it has just been created
      return ''
    say(f'{note} holds {self.path}: looking whether it lives')
    if self._changes(note, self.patience):
      return ''
    return f'has given no sign of life for {self.patience:g} s'

  def _changes(self, note: Note, seconds: float) -> bool:
    """Whether the lock changes, or is released, within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
      time.sleep(PAUSE)
      now = read_note(self.path)
      if now is None or now.content != note.content:
        return True
    return False

  def _take_over(self, dead: Note, why: str) -> None:
    """Removes the lock of a dead process, unless another was faster.

    Only who has made the folder GUARD removes a lock, so that it is the one
    that was looked at. A guard that a killed process left is removed in time.
    """
    guard = self.path.with_name(GUARD)
    try:
      guard.mkdir()
    except FileExistsError:
      time.sleep(PAUSE)
      self._guarded += PAUSE
      if self._guarded > self.patience:
        _remove_guard(guard)
      return
    try:
      note = read_note(self.path)
      if note is not None and note.token == dead.token:
        self.path.unlink(missing_ok=True)
        say(f'{self.path} is taken over: {dead} {why}')
    finally:
      _remove_guard(guard)

  def _live(self) -> None:
    """The thread that writes the heartbeat."""
    while not self._end.wait(self.beat):
      self._beats += 1
      with contextlib.suppress(OSError):
        self._write()
        note = read_note(self.path)
        if note is not None and note.token != self.token:
          if not self._end.is_set():
            self.on_lost(
              f'{self.path} was taken over by {note}, for this process had '
              f'given no sign of life for {self.patience:g} s. It ends, so '
              'that not both write there'
            )
          return
