"""Heartbeats: the state that a host reports, and how another host judges it."""

import contextlib
import dataclasses
import json
import os
import pathlib

from flowdistill.files.json_reader import fields, parse_json
from flowdistill.files.regular import read_regular

Place = tuple[int, int]
"""(stage, step), both ascending."""
SIZE = 2048  # bytes of a heartbeat's file
KINDS = {
  'pulse': float,
  'stage': int,
  'step': int,
  'busy': str,
  'done': bool,
  'failed': str,
}


@dataclasses.dataclass(frozen=True)
class Heartbeat:
  """What a host reports.

  Attributes:
    pulse: any value that changes.
    stage: the stage that it trains.
    step: of that stage.
    busy: what it does instead of training, '' if it trains.
    done: whether it has ended in order.
    failed: why it has failed, '' if it has not, or did not report it.
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


def write_heartbeat(path: pathlib.Path, heartbeat: Heartbeat) -> None:
  """Overwrites the previous heartbeat in place, which works on a full disk.

  Raises:
    OSError: if the file cannot be written.
  """
  short = dataclasses.replace(heartbeat, failed=heartbeat.failed[:200])
  text = json.dumps(dataclasses.asdict(short)).encode().ljust(SIZE)
  file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
  try:
    os.write(file, text)
  finally:
    os.close(file)


def read_heartbeat(path: pathlib.Path) -> Heartbeat | None:
  """None if there is no file, or it cannot be read or is incomplete."""
  with contextlib.suppress(OSError, ValueError, TypeError):
    record = parse_json(read_regular(path), path)
    return Heartbeat(**fields(record, KINDS, path))
  return None


@dataclasses.dataclass
class Host:
  """What is known of another host. Times are seconds of our clock.

  Attributes:
    alive: when its pulse last changed.
    moved: when its step, or what it is busy with, last changed.
    heartbeat: its last; at first the one that an earlier run has left.
    here: whether it has sent one since we began to watch.
  """

  alive: float
  moved: float
  heartbeat: Heartbeat = Heartbeat()
  here: bool = False

  def update(self, heartbeat: Heartbeat, now: float) -> None:
    """Notes what it reports now."""
    before, self.heartbeat = self.heartbeat, heartbeat
    if heartbeat.pulse != before.pulse:
      self.alive, self.here = now, True
    if (heartbeat.place, heartbeat.busy) != (before.place, before.busy):
      self.moved = now

  @property
  def done(self) -> bool:
    return self.here and self.heartbeat.done

  @property
  def failed(self) -> str:
    return self.heartbeat.failed if self.here else ''

  def fault(self, ours: Place, since: float, now: float, timeout: float) -> str:
    """Why it keeps us waiting; '' if it does not, or not for long enough.

    Args:
      ours: the place where we are.
      since: when we arrived there.
      now: the time.
      timeout: seconds.
    """
    where = f'it was at step {self.heartbeat.step}'
    if self.done:
      return ''
    if self.failed:
      return f'failed, {where}: {self.failed}'
    if now - self.alive > timeout:
      return f'has given no sign of life for {timeout:g} s; {where}'
    lives = now - self.alive < timeout / 2
    behind = self.heartbeat.place < ours
    late = behind and now - max(self.moved, since) > timeout
    if lives and late and not self.heartbeat.busy:
      return f'is alive, but hangs: {where} for {timeout:g} s'
    return ''
