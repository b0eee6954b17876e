"""Trackers: programs that draw the metrics of a run while it trains.

`log.trackers` names them. Beside TensorBoard they are extras of this package:
`pip install 'flowdistill[wandb]'`. What a tracker fails with is one line, and
the tracker is dropped: training does not depend on it.
"""

import importlib
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import tensorboardX
from absl import logging
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from flowdistill.files.atomic import naming
from flowdistill.files.json_reader import fields, read_json
from flowdistill.training.json_files import write_json

TRACKING, PROJECT = 'tracking.json', 'flowdistill'
PATIENCE = 120.0  # seconds, for one call of a tracker
PROTO: Any = event_pb2  # Any, because protobuf makes its classes at run time.
Rows = Sequence[Mapping[str, Any]]


class Tracker(Protocol):
  """Takes what is measured, in the order of steps."""

  def scalars(self, step: int, values: Mapping[str, float], /) -> None: ...
  def rows(self, step: int, rows: Rows, /) -> None: ...
  def picture(self, step: int, name: str, path: pathlib.Path, /) -> None: ...
  def close(self) -> None: ...


class TensorBoard:
  """Events of scalars in the folder of a stage, flushed at once.

  A new file revokes the events after `resume_step`. tensorboardX's
  SummaryWriter writes in the background, where `flush` has no effect, and would
  overwrite a file that it created in the same second.
  """

  def __init__(self, folder: pathlib.Path, resume_step: int):
    host = socket.gethostname()
    name = f'events.out.tfevents.{time.time():.3f}.{host}.{os.getpid()}'
    self.folder = folder
    self.events = tensorboardX.RecordWriter(str(folder / name))
    self._write(file_version='brain.Event:2')
    start = PROTO.SessionLog(status=PROTO.SessionLog.START)
    self._write(step=resume_step + 1, session_log=start)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Appends an event for each scalar."""
    with naming(self.folder):
      for name, value in values.items():
        self._write(step=step, summary=scalar(name, value))
      self.events.flush()

  def rows(self, step: int, rows: Rows) -> None:
    """Their figures are scalars already."""

  def picture(self, step: int, name: str, path: pathlib.Path) -> None:
    """They are on the page of the run."""

  def close(self) -> None:
    """Closes the file."""
    with naming(self.folder):
      self.events.close()

  def _write(self, **fields: Any) -> None:
    """Appends an event, see TensorBoard's event.proto for its fields."""
    event = PROTO.Event(wall_time=time.time(), **fields)
    self.events.write(event.SerializeToString())


class Logged:
  """A run of a program with the interface of Weights & Biases.

  Args:
    module: that has `Table` and `Image`.
    run: that has `log(values, step=...)` and `finish()`.
  """

  def __init__(self, module: Any, run: Any):
    self.module, self.run = module, run

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Logs scalars."""
    self.run.log(dict(values), step=step)

  def rows(self, step: int, rows: Rows) -> None:
    """Logs a table of all keys of the rows."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    data = [[_plain(row.get(key)) for key in keys] for row in rows]
    table = self.module.Table(columns=keys, data=data, allow_mixed_types=True)
    self.run.log({'rows': table}, step=step)

  def picture(self, step: int, name: str, path: pathlib.Path) -> None:
    """Logs a picture under a name, which has a picture at several steps."""
    self.run.log({name: self.module.Image(str(path))}, step=step)

  def close(self) -> None:
    """Ends the run, which may be continued."""
    self.run.finish()


def wandb(folder: pathlib.Path, resume_step: int) -> Tracker:
  """A run of Weights & Biases; with WANDB_MODE=offline in W/<stage>/wandb."""
  del resume_step  # it drops the steps that it knows
  module = importlib.import_module('wandb')
  run = module.init(
    project=os.environ.get('WANDB_PROJECT', PROJECT),
    id=run_id(folder),
    name=run_name(folder),
    dir=str(folder),
    resume='allow',
    reinit='finish_previous',
    settings=module.Settings(
      console='off', silent=True, login_timeout=30, init_timeout=60
    ),
  )
  return Logged(module, run)


def trackio(folder: pathlib.Path, resume_step: int) -> Tracker:
  """A run of trackio, which keeps it on this machine in TRACKIO_DIR."""
  del resume_step
  module = importlib.import_module('trackio')
  name = f'{run_name(folder)}-{run_id(folder)}'
  run = module.init(project=PROJECT, name=name, resume='allow', embed=False)
  return Logged(module, run)


TRACKERS: dict[str, Callable[[pathlib.Path, int], Tracker]] = {
  'tensorboard': TensorBoard,
  'wandb': wandb,
  'trackio': trackio,
}


class Trackers:
  """Several trackers, of which one that fails is dropped with a warning.

  Args:
    names: of TRACKERS.
    folder: of the stage.
    resume_step: steps that were restored, 0 if there are none.
  """

  def __init__(
    self, names: Sequence[str], folder: pathlib.Path, resume_step: int
  ):
    # A thread of their own keeps what they raise, whatever it is, and lets
    # training go on if a call does not come back.
    self._threads = {
      n: ThreadPoolExecutor(1, thread_name_prefix=n) for n in names
    }
    self.live: dict[str, Tracker] = {}
    for name in names:
      if tracker := self._try(name, TRACKERS[name], folder, resume_step):
        self.live[name] = tracker

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Passes on the scalars of a step."""
    self._all('scalars', step, values)

  def evaluation(
    self, step: int, rows: Rows, pictures: Sequence[pathlib.Path]
  ) -> None:
    """Passes on the rows of an evaluation and its pictures."""
    if rows:
      self._all('rows', step, rows)
    for path in pictures:
      self._all('picture', step, f'{path.parent.name}/{path.stem}', path)

  def close(self) -> None:
    """Ends all of them."""
    self._all('close')
    self.live.clear()
    for thread in self._threads.values():
      thread.shutdown(wait=False)

  def _all(self, method: str, *arguments: Any) -> None:
    for name, tracker in [*self.live.items()]:
      self._try(name, getattr(tracker, method), *arguments)

  def _try(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns; None, and a warning, if it fails."""
    future = self._threads[name].submit(call, *arguments)
    try:
      error = future.exception(PATIENCE)
    except TimeoutError:
      error = TimeoutError(f'no answer in {PATIENCE:g} s')
    if error is None:
      return future.result()
    self.live.pop(name, None)
    why = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    logging.warning('The tracker %s is dropped: %s', name, why)
    return None


def run_id(folder: pathlib.Path) -> str:
  """The id of a stage for trackers, which is made once and kept in its folder.

  Raises:
    DamagedFileError: if the file has another content.
  """
  path = folder / TRACKING
  if not path.is_file():
    write_json(path, {'id': secrets.token_hex(4)})
  return fields(read_json(path), {'id': str}, path)['id']


def run_name(folder: pathlib.Path) -> str:
  """'quickstart/distil'."""
  return '/'.join(folder.absolute().parts[-2:])


def _plain(value: Any) -> Any:
  """A number, a text or None."""
  return value if isinstance(value, int | float | str | None) else f'{value}'
