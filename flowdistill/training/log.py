"""The scalars of a run, in JSON lines and TensorBoard events, and its log."""

import json
import os
import pathlib
import socket
import time
from collections.abc import Mapping
from typing import Any, Self

import tensorboardX
from absl import logging
from clu import parameter_overview
from flax import nnx
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from flowdistill.training.files import jsonable, naming

METRICS = 'metrics.jsonl'
PROTO: Any = event_pb2  # Any, because protobuf makes its classes at run time.


class MetricLog:
  """Writes scalars to `metrics.jsonl` and TensorBoard events in a folder.

  Of several hosts, one has a log. On opening, what an earlier run wrote after
  `resume_step` is taken out of both, for these steps will be made again.

  Args:
    folder: of the stage; it is made if need be.
    resume_step: steps that were restored, 0 for none.

  Raises:
    ValueError: if a line that was written in full is not JSON.
  """

  def __init__(self, folder: str | os.PathLike[str], *, resume_step: int):
    self.folder = folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / METRICS
    if path.exists():
      cut_back(path, resume_step)
    self.lines = path.open('a', encoding='utf-8')
    self.events = open_events(folder, resume_step)

  def write(self, step: int, images: int, scalars: Mapping[str, Any]) -> None:
    """Appends one line and one event per scalar, and flushes them.

    Args:
      step: steps made so far.
      images: examples seen so far, over all hosts.
      scalars: name -> number or array of one. One that is not finite is written
        as 'nan', 'inf' or '-inf' (see `jsonable`).

    Raises:
      OSError: naming what cannot be written, for example on a full disk.
      ValueError: if a scalar is called `step` or `images`.
    """
    if taken := {'step', 'images'} & set(scalars):
      raise ValueError(f'a scalar may not be called {sorted(taken)}')
    values = {name: float(value) for name, value in scalars.items()}
    row = jsonable({'step': step, 'images': images, **values})
    with naming(self.lines.name):
      self.lines.write(f'{json.dumps(row, allow_nan=False)}\n')
      self.lines.flush()
    with naming(self.folder):
      for name, value in values.items():
        write_event(self.events, step=step, summary=scalar(name, value))
      self.events.flush()

  def close(self) -> None:
    self.lines.close()
    self.events.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def cut_back(path: pathlib.Path, step: int) -> None:
  """Keeps the lines of a metrics file up to `step`, atomically.

  A last line without its end, as a killed run leaves it, is dropped.

  Raises:
    ValueError: if another line is not JSON.
  """
  temporary = path.with_name(f'{path.name}.tmp')
  with (
    path.open(encoding='utf-8') as old,
    temporary.open('w', encoding='utf-8') as new,
  ):
    for number, line in enumerate(old, start=1):
      if line.endswith('\n') and _step_of(line, path, number) <= step:
        new.write(line)
  os.replace(temporary, path)


def open_events(
  folder: pathlib.Path, resume_step: int
) -> tensorboardX.RecordWriter:
  """A new file of TensorBoard events, which takes back those after a step.

  tensorboardX's SummaryWriter would write in the background, where `flush` does
  not reach, and overwrite a file that it made in the same second.
  """
  host = socket.gethostname()
  name = f'events.out.tfevents.{time.time():.3f}.{host}.{os.getpid()}'
  events = tensorboardX.RecordWriter(str(folder / name))
  write_event(events, file_version='brain.Event:2')
  start = PROTO.SessionLog(status=PROTO.SessionLog.START)
  write_event(events, step=resume_step + 1, session_log=start)
  return events


def write_event(events: tensorboardX.RecordWriter, **fields: Any) -> None:
  """Appends an event, see TensorBoard's event.proto for its fields."""
  event = PROTO.Event(wall_time=time.time(), **fields)
  events.write(event.SerializeToString())


def _step_of(line: str, path: pathlib.Path, number: int) -> int:
  try:
    return json.loads(line)['step']
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path}, line {number} is no line of metrics: {line[:80]!r}'
    ) from error


def log_parameters(name: str, params: nnx.State) -> None:
  """Logs a table of parameters with their shapes and sizes.

  Args:
    name: of the network.
    params: arrays or `jax.ShapeDtypeStruct`s; they are not read.
  """
  table = parameter_overview.get_parameter_overview(
    nnx.to_pure_dict(params), include_stats=False
  )
  logging.info('Parameters of %s:\n%s', name, table)
