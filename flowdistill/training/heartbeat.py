"""Signs of life: what a host says of itself, and what another makes of it."""

import contextlib
import dataclasses
import json
import os
import pathlib

Place = tuple[int, int]
"""(stage, step), both ascending."""
SIZE = 2048  # bytes of a sign in its file


@dataclasses.dataclass(frozen=True)
class Sign:
  """What a host says.

  Attributes:
    pulse: any value that changes.
    stage: where its training is.
    step: where it is in that.
    busy: what it does besides training, '' for nothing.
    done: whether it has left in peace.
    failed: why it has left otherwise, '' if it says nothing of that.
  """

  pulse: float = 0.0
  stage: int = 0
  step: int = 0
  busy: str = ''
  done: bool = False
  failed: str = ''

  @property
  def place(self) -> Place:
    return self.stage, self.step


def write_sign(path: pathlib.Path, sign: Sign) -> None:
  """Writes over the sign before, which needs no room: a disk may be full.

  Raises:
    OSError: if that does not help.
  """
  short = dataclasses.replace(sign, failed=sign.failed[:200])
  text = json.dumps(dataclasses.asdict(short)).encode().ljust(SIZE)
  file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
  try:
    os.write(file, text)
  finally:
    os.close(file)


def read_sign(path: pathlib.Path) -> Sign | None:
  """None where there is none that can be read, or only half of one."""
  with contextlib.suppress(OSError, ValueError, TypeError):
    return Sign(**json.loads(path.read_bytes()))
  return None


@dataclasses.dataclass
class Host:
  """What is known of another host, and since when by our clock in seconds.

  Attributes:
    alive: when its pulse last changed.
    moved: when it last went on, or took up something else.
    sign: its last; at first what an earlier run has left.
    here: whether it has given one since we watch.
  """

  alive: float
  moved: float
  sign: Sign = Sign()
  here: bool = False

  def read(self, sign: Sign, now: float) -> None:
    """Takes in what it says now."""
    before, self.sign = self.sign, sign
    if sign.pulse != before.pulse:
      self.alive, self.here = now, True
    if (sign.place, sign.busy) != (before.place, before.busy):
      self.moved = now

  @property
  def done(self) -> bool:
    return self.here and self.sign.done

  @property
  def failed(self) -> str:
    return self.sign.failed if self.here else ''

  def fault(self, ours: Place, since: float, now: float, timeout: float) -> str:
    """Why we wait for it, '' if we do not, or not long enough.

    Args:
      ours: where we are.
      since: when we came there.
      now: the time.
      timeout: seconds.
    """
    where = f'it was at step {self.sign.step}'
    if self.done:
      return ''
    if self.failed:
      return f'failed, {where}: {self.failed}'
    if now - self.alive > timeout:
      return f'has given no sign of life for {timeout:g} s; {where}'
    lives = now - self.alive < timeout / 2
    late = self.sign.place < ours and now - max(self.moved, since) > timeout
    if lives and late and not self.sign.busy:
      return f'lives, but hangs: {where} for {timeout:g} s'
    return ''
