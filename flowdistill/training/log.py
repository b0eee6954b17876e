"""The metrics of a run, as JSON lines and for trackers, and its log."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from absl import logging
from clu import parameter_overview
from flax import nnx

from flowdistill.files.atomic import append, naming, replacing
from flowdistill.files.json_reader import fields, parse_json, refuse, typed
from flowdistill.training.json_files import jsonable
from flowdistill.training.trackers import Rows, Trackers

METRICS, EVALUATOR = 'metrics.jsonl', 'evaluator'


class MetricLog:
  """Writes scalars to `metrics.jsonl` in a folder, and to trackers.

  Of several hosts, only one has a log. Opening it removes what an earlier run
  wrote after `resume_step`, for these steps will be repeated; TensorBoard's
  events of them are revoked.

  Args:
    folder: of the stage, created if it does not exist.
    resume_step: steps that were restored, 0 if there are none.
    trackers: names of TRACKERS.

  Raises:
    DamagedFileError: if a complete line is not a row of metrics.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    *,
    resume_step: int,
    trackers: Sequence[str] = ('tensorboard',),
  ):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / METRICS
    if path.exists():
      cut_back(path, resume_step)
    self.lines = append(path)
    self.trackers = Trackers(trackers, folder, resume_step)

  def write(
    self,
    step: int,
    images: int,
    scalars: Mapping[str, Any],
    evaluator: str = '',
  ) -> None:
    """Appends one line, flushes it, and passes the scalars to the trackers.

    Args:
      step: steps made so far.
      images: examples seen so far, over all hosts.
      scalars: name -> number or array of one element. A non-finite one is
        written as 'nan', 'inf' or '-inf' (see `jsonable`).
      evaluator: that measured them; '' for metrics of training.

    Raises:
      OSError: naming the file that cannot be written, such as on a full disk.
      ValueError: if a scalar is called `step`, `images` or `evaluator`.
    """
    if taken := {'step', 'images', EVALUATOR} & set(scalars):
      raise ValueError(f'a scalar must not be called {sorted(taken)}')
    values = {name: float(value) for name, value in scalars.items()}
    named = {EVALUATOR: evaluator} if evaluator else {}
    row = jsonable({'step': step, 'images': images, **named, **values})
    with naming(self.lines.name):
      self.lines.write(f'{json.dumps(row, allow_nan=False)}\n'.encode())
      self.lines.flush()
    self.trackers.scalars(step, values)

  def evaluation(
    self, step: int, rows: Rows, pictures: Sequence[pathlib.Path]
  ) -> None:
    """Passes the rows and pictures of an evaluation to the trackers."""
    self.trackers.evaluation(step, rows, pictures)

  def close(self) -> None:
    """Ends the trackers, and closes the file."""
    self.trackers.close()
    with naming(self.lines.name):  # it may still have lines to write
      self.lines.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def logged(folder: str | os.PathLike[str], name: str) -> dict[int, float]:
  """Step -> value of one scalar in the metrics of a stage.

  Args:
    folder: of the stage; one without metrics has no values.
    name: of the scalar.

  Raises:
    DamagedFileError: if a complete line is not a row of metrics.
  """
  path = pathlib.Path(folder) / METRICS
  known = [row for row in logged_rows(folder) if name in row]
  return {row['step']: _figure(row[name], path) for row in known}


def logged_rows(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """The rows in the metrics of a stage, [] without any; see `logged`."""
  path = pathlib.Path(folder) / METRICS
  return [row for _, row in _rows(path)] if path.is_file() else []


def cut_back(path: pathlib.Path, step: int) -> None:
  """Keeps the lines of a metrics file up to `step`, atomically.

  Raises:
    DamagedFileError: if a complete line is not a row of metrics.
  """
  with replacing(path) as new:
    new.writelines(line for line, row in _rows(path) if row['step'] <= step)


def _rows(path: pathlib.Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
  """The lines of a metrics file, and what they say.

  A last line without a newline, as a killed run leaves it, is skipped.
  """
  with path.open('rb') as file:
    for number, line in enumerate(file, start=1):
      if line.endswith(b'\n'):
        yield line, _row(line, path, number)


def _row(line: bytes, path: pathlib.Path, number: int) -> dict[str, Any]:
  where = f'{path}, line {number},'
  row = typed(parse_json(line.rstrip(), where), dict, where, 'it')
  return dict(fields(row, {'step': int}, where))


def _figure(value: Any, path: pathlib.Path) -> float:
  try:
    return float(value)
  except (TypeError, ValueError) as error:
    refuse(path, f'has {value!r:.40} for a number', error)


def log_parameters(name: str, params: nnx.State) -> None:
  """Logs a table of parameters with their shapes and sizes.

  Args:
    name: of the network.
    params: arrays or `jax.ShapeDtypeStruct`s; no array is read.
  """
  table = parameter_overview.get_parameter_overview(
    nnx.to_pure_dict(params), include_stats=False
  )
  logging.info('Parameters of %s:\n%s', name, table)
