"""Which of several hosts is missing? Each gives signs of life in a folder.

A thread of every host writes HOST.json about once a second: a pulse, where its
training is, and what keeps it busy. It reads those of the others. Where a host
waits for another (a collective has no end and no name), one of these holds:

- the other gives no pulse: it died, or is frozen, or its machine is gone;
- it gives one, but is behind and does not move: it hangs.

After `timeout` seconds of that the host says so and exits. The folder is in the
workdir, which all hosts share; no other service is asked.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, NoReturn, Self

import jax

from flowdistill.training.record import write_json

Place = tuple[int, int]
"""(stage, step), both ascending."""
AGAIN = os.EX_TEMPFAIL  # 75: the same command goes on where this one stopped


@dataclasses.dataclass
class Host:
  """What is known of another host, and since when.

  Attributes:
    pulse: any value that changes.
    alive: when the pulse last changed, by our clock in seconds.
    place: where its training is.
    moved: when that last changed.
    busy: what it does besides training, '' for nothing.
    done: whether it has left in peace.
  """

  alive: float
  moved: float
  pulse: float | None = None
  place: Place = (0, 0)
  busy: str = ''
  done: bool = False

  def read(self, said: dict[str, Any], now: float) -> None:
    """Takes in what it wrote."""
    if said['pulse'] != self.pulse:
      self.pulse, self.alive = said['pulse'], now
    place = (said['stage'], said['step'])
    if place != self.place or said['busy'] != self.busy:
      self.place, self.busy, self.moved = place, said['busy'], now
    self.done = said['done']

  def fault(self, ours: Place, now: float, timeout: float) -> str:
    """Why we wait for it, '' if we do not, or not long enough."""
    where = f'it was at step {self.place[1]}'
    if self.done:
      return ''
    if now - self.alive > timeout:
      return f'has given no sign of life for {timeout:g} s; {where}'
    lives = now - self.alive < timeout / 2
    late = self.place < ours and now - self.moved > timeout
    if lives and late and not self.busy:
      return f'lives, but hangs: {where} for {timeout:g} s'
    return ''


def give_up(message: str) -> NoReturn:
  """Ends this process at once: its main thread waits in a collective."""
  print(f'error: {message}', file=sys.stderr, flush=True)
  os._exit(AGAIN)


class Watchdog:
  """Watches the other hosts while it is open.

  Args:
    folder: that all hosts share; it is made if need be.
    process: which host this is, from 0.
    count: how many there are.
    timeout: seconds, above 0.
    interval: seconds between two signs of life.
    bark: what to do with the message, once.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    process: int,
    count: int,
    timeout: float,
    *,
    interval: float = 1.0,
    bark: Callable[[str], Any] = give_up,
  ):
    self.folder, self.process, self.timeout = folder, process, timeout
    self.interval, self.bark = min(interval, timeout / 4), bark
    now = time.monotonic()
    self.hosts = {p: Host(now, now) for p in range(count) if p != process}
    self.place: Place = (0, 0)
    self._busy = ''
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._run, daemon=True)

  def at(self, stage: int, step: int) -> None:
    """Says that this host has begun a step; 0 is to get ready, and compile."""
    self.place = (stage, step)
    self._busy = '' if step else 'starting'

  @contextlib.contextmanager
  def busy(self, what: str) -> Generator[None]:
    """While it is open the others wait for this host as long as it lives."""
    self._busy = what
    try:
      yield
    finally:
      self._busy = ''

  def missing(self) -> str:
    """'process 2 ...', which host we wait for in vain; '' for none."""
    now = time.monotonic()
    for process, host in self.hosts.items():
      with contextlib.suppress(FileNotFoundError):
        host.read(json.loads(self._file(process).read_text()), now)
      if why := host.fault(self.place, now, self.timeout):
        step = self.place[1]
        return (
          f'process {process} did not arrive at step {step}: it {why}. '
          'Training goes on from the last checkpoint when it is started again'
        )
    return ''

  def __enter__(self) -> Self:
    if self.hosts:
      self.folder.mkdir(parents=True, exist_ok=True)
      self._write()
      self._thread.start()
    return self

  def __exit__(self, kind: Any, *_: object) -> None:
    failed = kind is not None and issubclass(kind, jax.errors.JaxRuntimeError)
    if failed and self.hosts:
      # A collective fails where a host has died: let that be named.
      self._end.wait(self.timeout + 4 * self.interval)
    self._end.set()
    if self.hosts:
      self._thread.join()
      self._write(done=kind is None)

  def _run(self) -> None:
    while not self._end.wait(self.interval):
      self._write()
      if message := self.missing():
        if self.process == 0:  # with it goes the coordinator of the others
          time.sleep(3 * self.interval)
        self.bark(message)
        return

  def _file(self, process: int) -> pathlib.Path:
    return self.folder / f'{process}.json'

  def _write(self, *, done: bool = False) -> None:
    stage, step = self.place
    said = {'pulse': time.time(), 'stage': stage, 'step': step}
    write_json(
      self._file(self.process), {**said, 'busy': self._busy, 'done': done}
    )
