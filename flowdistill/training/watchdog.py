"""Names the host that is missing, by heartbeats in a shared folder.

About once a second, a thread of every host writes its heartbeat to HOST.json (a
pulse, the stage and step, and what else keeps it busy) and reads those of the
others. A collective waits for a lost host indefinitely and does not name it.
When a host waits for another, one of these holds:

- the other has failed and reports it: it is named at once;
- it has no pulse: it died, is frozen, or its machine is gone;
- it has a pulse but is behind, and neither host makes progress: it hangs.

After `timeout` seconds of the latter two, the waiting host names it and exits.
The folder is in the workdir, which all hosts share; no other service is needed.
JAX aborts a process as soon as it loses the first host, and names no host: the
abort is delayed until the watchdog has.
"""

import contextlib
import ctypes
import functools
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, NoReturn, Self

import jax

from flowdistill.training.heartbeat import (
  Heartbeat,
  Host,
  Place,
  read_heartbeat,
  write_heartbeat,
)

AGAIN = os.EX_TEMPFAIL  # 75: the same command resumes where this one stopped
FAILED = 1  # the same command would fail again
# What JAX raises when a collective fails because a host has died.
LOST = (jax.errors.JaxRuntimeError, RuntimeError, ValueError)


def give_up(message: str, code: int = AGAIN) -> NoReturn:
  """Ends this process at once, for its main thread waits in a collective."""
  print(f'error: {message}', file=sys.stderr, flush=True)
  os._exit(code)


@contextlib.contextmanager
def on_abort(act: Callable[[], Any]) -> Generator[None]:
  """While it is open, a thread that aborts the process first calls `act`.

  A Python signal handler would run in the main thread only, and too late.
  """
  libc = ctypes.CDLL(None)
  libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
  libc.signal.restype = ctypes.c_void_p
  handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: act())
  wanted = ctypes.cast(handler, ctypes.c_void_p)
  before = libc.signal(signal.SIGABRT, wanted)
  try:
    yield
  finally:
    libc.signal(signal.SIGABRT, before)


class Watchdog:
  """Watches the other hosts while it is open.

  Args:
    folder: shared by all hosts, created if it does not exist.
    process: index of this host, from 0.
    count: number of hosts.
    timeout: seconds, above 0.
    interval: seconds between two heartbeats.
    on_missing: called once, with (message, exit code).
  """

  def __init__(
    self,
    folder: pathlib.Path,
    process: int,
    count: int,
    timeout: float,
    *,
    interval: float = 1.0,
    on_missing: Callable[[str, int], Any] = give_up,
  ):
    self.folder, self.process, self.timeout = folder, process, timeout
    self.interval = min(interval, timeout / 4)
    self.on_missing = on_missing
    now = time.monotonic()
    self.hosts = {p: Host(now, now) for p in range(count) if p != process}
    self.place: Place = (0, 0)
    self._since, self._busy = now, ''
    self._trouble = ''  # why no heartbeat could be written
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._open = contextlib.ExitStack()

  def at(self, stage: int, step: int) -> None:
    """Reports that this host has begun a step; 0 stands for compilation."""
    self._since = time.monotonic()
    self.place = (stage, step)
    self._busy = '' if step else 'starting'

  @contextlib.contextmanager
  def busy(self, what: str) -> Generator[None]:
    """While it is open, the others wait for this host as long as it lives."""
    self._busy = what
    try:
      yield
    finally:
      self._since, self._busy = time.monotonic(), ''

  def missing(self) -> tuple[str, int] | None:
    """('process 2 ...', exit code) of the first host with a fault."""
    now = time.monotonic()
    for process, host in self.hosts.items():
      if heartbeat := read_heartbeat(self._file(process)):
        host.update(heartbeat, now)
      if why := host.fault(self.place, self._since, now, self.timeout):
        step = self.place[1]
        text = f'process {process} did not arrive at step {step}: it {why}'
        return (text, FAILED) if host.failed else (text + self._after(), AGAIN)
    return None

  def __enter__(self) -> Self:
    if self.hosts:
      self.folder.mkdir(parents=True, exist_ok=True)
      for process, host in self.hosts.items():
        last = read_heartbeat(self._file(process))
        host.heartbeat = last or Heartbeat()
      self._write()
      self._thread.start()
      wait = functools.partial(time.sleep, self._patience)
      self._open.enter_context(on_abort(wait))
    return self

  def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
    if not self.hosts:
      return
    if type(error) in LOST:  # exactly: our own errors are subclasses
      self._end.wait(self._patience)
    self._end.set()
    self._thread.join()
    self._open.close()
    why = f'{kind.__name__}: {error}' if isinstance(error, Exception) else ''
    done = error is None or isinstance(error, SystemExit)
    self._try_to_write(done=done, failed=why)
    if why:
      self._let_others_exit()

  def _let_others_exit(self) -> None:
    """The first host is the coordinator: without it JAX ends the others."""
    if self.process == 0:
      time.sleep(3 * self.interval)

  @property
  def _patience(self) -> float:
    """Seconds after which a lost host is named and this process has ended."""
    return self.timeout + 4 * self.interval

  def _run(self) -> None:
    while not self._end.wait(self.interval):
      self._try_to_write()
      if missing := self.missing():
        self._let_others_exit()
        self.on_missing(*missing)
        return

  def _file(self, process: int) -> pathlib.Path:
    return self.folder / f'{process}.json'

  def _write(self, **more: Any) -> None:
    """Writes our heartbeat."""
    stage, step = self.place
    heartbeat = Heartbeat(time.time(), stage, step, busy=self._busy, **more)
    write_heartbeat(self._file(self.process), heartbeat)

  def _try_to_write(self, **more: Any) -> None:
    """Goes on watching if the heartbeat cannot be written, with one warning."""
    try:
      self._write(**more)
      self._trouble = ''
    except OSError as error:
      if not self._trouble:
        print(f'warning: no heartbeat: {error}', file=sys.stderr, flush=True)
      self._trouble = str(error)

  def _after(self) -> str:
    """The end of the message that names a lost host."""
    ours = f' (and this process could give none: {self._trouble})'
    again = 'Training resumes from the last checkpoint when it is started again'
    return f'{ours if self._trouble else ""}. {again}'
