"""A process, as another one on the same machine or elsewhere knows it."""

import dataclasses
import os
import pathlib
import socket

PROC = pathlib.Path('/proc')
ENDED = ('Z', 'X')  # states of one that only its parent still knows


@dataclasses.dataclass(frozen=True)
class Process:
  """What identifies a process.

  Attributes:
    pid: its number.
    started: its start in ticks since the boot, '' where /proc does not exist;
      another process may have the same number later.
    host: the name of its machine.
    machine: the boot and the namespace in which its number is valid; machines
      and containers of the same name differ in it.
  """

  pid: int
  started: str
  host: str
  machine: str

  @classmethod
  def this(cls) -> 'Process':
    """This process."""
    pid = os.getpid()
    started = _state(pid)[1]
    return cls(pid, started, socket.gethostname(), _machine())

  @property
  def is_here(self) -> bool:
    """Whether its number is valid here, so that `has_ended` knows."""
    return (self.host, self.machine) == (socket.gethostname(), _machine())

  @property
  def has_ended(self) -> bool:
    """Whether it is gone; only for one that is here."""
    try:
      os.kill(self.pid, 0)
    except ProcessLookupError:
      return True
    except PermissionError:
      pass  # it is another user's
    state, started = _state(self.pid)
    if state in ENDED:
      return True
    return '' not in (started, self.started) and started != self.started

  def __str__(self) -> str:
    return f'process {self.pid} on {self.host}'


def _machine() -> str:
  boot = PROC / 'sys/kernel/random/boot_id'
  names = PROC / 'self/ns/pid'
  try:
    return f'{boot.read_text().strip()} {os.readlink(names)}'
  except OSError:  # not Linux
    return ''


def _state(pid: int) -> tuple[str, str]:
  """(state, start) of a process, ('?', '') where /proc does not tell."""
  try:
    text = (PROC / str(pid) / 'stat').read_text('utf-8', 'replace')
  except OSError:
    return '?', ''
  fields = text.rpartition(')')[2].split()  # a name may have blanks and )
  return fields[0], fields[19]
