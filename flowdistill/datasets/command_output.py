"""What a command prints, as a file; only run with the user's consent."""

import contextlib
import os
import selectors
import signal
import subprocess

PATIENCE = 2.0  # seconds in which a command that is asked to end does so


class CommandOutput:
  """The output of a shell command.

  Args:
    command: for the shell.
    stall: seconds without a byte, after which it is given up.
  """

  def __init__(self, command: str, stall: float):
    self.command, self.stall = command, stall
    # A session of its own, so that it ends with all that it has started.
    self._process = subprocess.Popen(
      command,
      shell=True,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      bufsize=0,
      start_new_session=True,
    )

  def read(self, size: int) -> bytes:
    """The next bytes, at most `size`; none at the end.

    Raises:
      TimeoutError: if there are none for `stall` seconds.
      OSError: if the command fails.
    """
    assert self._process.stdout is not None
    with selectors.DefaultSelector() as selector:
      selector.register(self._process.stdout, selectors.EVENT_READ)
      if not selector.select(self.stall):
        raise self._stalled()
    data = self._process.stdout.read(size)
    if not data and (code := self._ended()):
      raise OSError(f'the command {self.command!r} ended with code {code}')
    return data

  def close(self) -> None:
    """Ends the command."""
    assert self._process.stdout is not None
    self._process.stdout.close()  # it gets SIGPIPE when it prints on
    for number in (signal.SIGTERM, signal.SIGKILL):
      with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(self._process.pid, number)
      with contextlib.suppress(subprocess.TimeoutExpired):
        self._process.wait(PATIENCE)

  def _ended(self) -> int:
    """The code with which the command ended, behind its last byte."""
    try:
      return self._process.wait(self.stall)
    except subprocess.TimeoutExpired:
      raise self._stalled() from None

  def _stalled(self) -> TimeoutError:
    return TimeoutError(
      f'the command {self.command!r} printed nothing for {self.stall:g} s'
    )
