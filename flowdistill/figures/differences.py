"""In what the runs of a comparison differ: measurements, and configs."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.kinds import TRAIN
from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.evaluators.signature import Row
from flowdistill.figures.columns import (
  Column,
  Key,
  differing,
  key_of,
  keyed,
  said,
)
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.training.json_files import jsonable
from flowdistill.workdir.folders import stage_folder, stage_names
from flowdistill.workdir.record import load_spec, read_record

NOTHING = '–'  # the value of a key that a config does not have


@dataclasses.dataclass(frozen=True)
class Pair:
  """Stages of several runs, and the keys in which their configs differ.

  Attributes:
    title: 'Stage flow'; 'Configs' if runs have no stages.
    runs: their names.
    keys: key -> its value in each run.
    trains: whether the stage trains networks.
  """

  title: str
  runs: Sequence[str]
  keys: Mapping[str, Sequence[str]]
  trains: bool = True


def of_measurements(
  columns: Sequence[Column], rows: Sequence[Row]
) -> dict[str, dict[str, dict[str, list[str]]]]:
  """Title of a figure -> what is not the same for all -> value -> its runs.

  Args:
    columns: of figures.
    rows: of all runs.
  """
  runs: dict[Key, dict[str, None]] = {}
  for row in rows:
    for key in keyed(row):
      runs.setdefault(key, {})[row['run']] = None
  found: dict[str, dict[str, dict[str, list[str]]]] = {}
  for key in differing(columns):
    for column in columns:
      of = runs[key_of(column.name, column.measured)]
      values = found.setdefault(column.title, {}).setdefault(key, {})
      having = values.setdefault(said(key, column.measured), [])
      having += [run for run in of if run not in having]
  return found


def of_configs(
  workdirs: Mapping[str, pathlib.Path], notes: list[str]
) -> list[Pair]:
  """The stages of runs that have one name, and the last ones if they have not.

  Args:
    workdirs: name of a run -> its folder.
    notes: gets a sentence about each stage that is left out.
  """
  stages = {run: stage_names(workdir) for run, workdir in workdirs.items()}
  pairs = []
  for stage in dict.fromkeys(name for each in stages.values() for name in each):
    having = [run for run, names in stages.items() if stage in names]
    if len(having) > 1:
      folders = {run: stage_folder(workdirs[run], stage) for run in having}
      title = 'Configs' if stage == ONE_STAGE else f'Stage {stage}'
      pairs.append(_pair(title, folders, notes))
    if len(having) < len(stages):
      notes.append(f'The stage {stage!r} is in {" and ".join(having)} only.')
  last = {run: names[-1] for run, names in stages.items()}
  if len(set(last.values())) > 1:
    folders = {run: stage_folder(workdirs[run], n) for run, n in last.items()}
    named = ' and '.join(dict.fromkeys(last.values()))
    pairs.append(_pair(f'The last stages, {named}', folders, notes))
  return pairs


def _pair(
  title: str, folders: Mapping[str, pathlib.Path], notes: list[str]
) -> Pair:
  configs = {run: _config(folder, notes) for run, folder in folders.items()}
  known = {run: spec for run, spec in configs.items() if spec is not None}
  trains = any(spec.get('job', TRAIN) == TRAIN for spec in known.values())
  return Pair(title, list(known), dict(_differing([*known.values()])), trains)


def _differing(
  values: Sequence[Any], where: str = ''
) -> Iterator[tuple[str, list[str]]]:
  """'train.steps', ['100', '200'], for each key that differs, as JSON."""
  if all(isinstance(value, Mapping) for value in values):
    for key in dict.fromkeys(key for value in values for key in value):
      inner = [value.get(key, NOTHING) for value in values]
      yield from _differing(inner, f'{where}.{key}'.lstrip('.'))
    return
  texts = [
    NOTHING if value is NOTHING else json.dumps(value, ensure_ascii=False)
    for value in values
  ]
  if len(set(texts)) > 1:
    yield where, texts


def _config(folder: pathlib.Path, notes: list[str]) -> Spec | None:
  """With defaults for keys that are newer than it, if all keys still exist."""
  try:
    try:
      return jsonable(load_spec(folder))
    except ConfigError:
      return read_record(folder)['config']
  except (OSError, DamagedFileError) as error:
    notes.append(f'{error}.')
    return None
