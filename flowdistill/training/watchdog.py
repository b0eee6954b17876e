"""Which of several hosts is missing? Each gives signs of life in a folder.

A thread of every host writes HOST.json about once a second: a pulse, where its
training is, and what keeps it busy. It reads those of the others. Where a host
waits for another (a collective has no end and no name), one of these holds:

- the other has failed, and says so: it is named at once;
- it gives no pulse: it died, or is frozen, or its machine is gone;
- it gives one, but is behind, and neither of us moves: it hangs.

After `timeout` seconds of that the host says so and exits. The folder is in the
workdir, which all hosts share; no other service is asked. JAX aborts a process
as soon as it loses the first host, and names nobody: we make it wait.
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
  Host,
  Place,
  Sign,
  read_sign,
  write_sign,
)

AGAIN = os.EX_TEMPFAIL  # 75: the same command goes on where this one stopped
FAILED = 1  # it would fail again
# What JAX raises where a collective fails, because a host has died.
LOST = (jax.errors.JaxRuntimeError, RuntimeError, ValueError)


def give_up(message: str, code: int = AGAIN) -> NoReturn:
  """Ends this process at once: its main thread waits in a collective."""
  print(f'error: {message}', file=sys.stderr, flush=True)
  os._exit(code)


@contextlib.contextmanager
def on_abort(act: Callable[[], Any]) -> Generator[None]:
  """While it is open, a thread that aborts the process calls `act` first.

  A handler in Python would be called by the main thread alone, and too late.
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
    folder: that all hosts share; it is made if need be.
    process: which host this is, from 0.
    count: how many there are.
    timeout: seconds, above 0.
    interval: seconds between two signs of life.
    bark: what to do with (message, exit code), once.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    process: int,
    count: int,
    timeout: float,
    *,
    interval: float = 1.0,
    bark: Callable[[str, int], Any] = give_up,
  ):
    self.folder, self.process, self.timeout = folder, process, timeout
    self.interval, self.bark = min(interval, timeout / 4), bark
    now = time.monotonic()
    self.hosts = {p: Host(now, now) for p in range(count) if p != process}
    self.place: Place = (0, 0)
    self._since, self._busy = now, ''
    self._trouble = ''  # why we could give no sign
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._open = contextlib.ExitStack()

  def at(self, stage: int, step: int) -> None:
    """Says that this host has begun a step; 0 is to get ready, and compile."""
    self._since = time.monotonic()
    self.place = (stage, step)
    self._busy = '' if step else 'starting'

  @contextlib.contextmanager
  def busy(self, what: str) -> Generator[None]:
    """While it is open the others wait for this host as long as it lives."""
    self._busy = what
    try:
      yield
    finally:
      self._since, self._busy = time.monotonic(), ''

  def missing(self) -> tuple[str, int] | None:
    """('process 2 ...', exit code): which host we wait for in vain."""
    now = time.monotonic()
    for process, host in self.hosts.items():
      if sign := read_sign(self._file(process)):
        host.read(sign, now)
      if why := host.fault(self.place, self._since, now, self.timeout):
        step = self.place[1]
        text = f'process {process} did not arrive at step {step}: it {why}'
        return (text, FAILED) if host.failed else (text + self._after(), AGAIN)
    return None

  def __enter__(self) -> Self:
    if self.hosts:
      self.folder.mkdir(parents=True, exist_ok=True)
      for process, host in self.hosts.items():
        host.sign = read_sign(self._file(process)) or Sign()
      self._write()
      self._thread.start()
      wait = functools.partial(time.sleep, self._patience)
      self._open.enter_context(on_abort(wait))
    return self

  def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
    if not self.hosts:
      return
    if type(error) in LOST:  # our own errors are subclasses
      self._end.wait(self._patience)
    self._end.set()
    self._thread.join()
    self._open.close()
    why = f'{kind.__name__}: {error}' if isinstance(error, Exception) else ''
    peace = error is None or isinstance(error, SystemExit)
    self._try_to_write(done=peace, failed=why)

  @property
  def _patience(self) -> float:
    """Seconds within which who is gone is named, and this process ends."""
    return self.timeout + 4 * self.interval

  def _run(self) -> None:
    while not self._end.wait(self.interval):
      self._try_to_write()
      if missing := self.missing():
        if self.process == 0:  # with it goes the coordinator of the others
          time.sleep(3 * self.interval)
        self.bark(*missing)
        return

  def _file(self, process: int) -> pathlib.Path:
    return self.folder / f'{process}.json'

  def _write(self, **more: Any) -> None:
    """Gives a sign of life."""
    stage, step = self.place
    sign = Sign(time.time(), stage, step, busy=self._busy, **more)
    write_sign(self._file(self.process), sign)

  def _try_to_write(self, **more: Any) -> None:
    """The watch goes on where no sign can be given; that is said once."""
    try:
      self._write(**more)
      self._trouble = ''
    except OSError as error:
      if not self._trouble:
        print(f'warning: no sign of life: {error}', file=sys.stderr, flush=True)
      self._trouble = str(error)

  def _after(self) -> str:
    """What the message of a lost host ends with."""
    ours = f' (and this one could give none: {self._trouble})'
    again = 'Training goes on from the last checkpoint when it is started again'
    return f'{ours if self._trouble else ""}. {again}'
