"""What a command prints, as a file; only run with the user's consent."""

import subprocess


class CommandOutput:
  """The output of a shell command.

  Args:
    command: for the shell.
  """

  def __init__(self, command: str):
    self.command = command
    self._process = subprocess.Popen(
      command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )

  def read(self, size: int) -> bytes:
    """The next bytes, at most `size`; none at the end.

    Raises:
      OSError: if the command fails.
    """
    assert self._process.stdout is not None
    data = self._process.stdout.read(size)
    if not data and (code := self._process.wait()):
      raise OSError(f'the command {self.command!r} ended with code {code}')
    return data

  def close(self) -> None:
    """Ends the command."""
    assert self._process.stdout is not None
    self._process.stdout.close()  # it gets SIGPIPE when it prints on
    self._process.terminate()
    self._process.wait()
