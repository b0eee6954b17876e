"""The folders of a run, W/<stage>/, and the names of their files."""

import os
import pathlib
from typing import Any

from flowdistill.config.bind import ConfigError
from flowdistill.config.kinds import TRAIN
from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.files.json_reader import fields, read_json, refuse, typed
from flowdistill.files.paths import expand

CONFIG, RESULTS = 'config.json', 'results.json'
CHECKPOINTS, PAIRS, SAMPLES = 'checkpoints', 'pairs', 'samples'
LATENTS, CAPTIONS = 'latents', 'captions'
EVALUATIONS, FAILURE = 'evaluations', 'failure'
EMA_SNAPSHOTS = 'ema_snapshots'
STAGE = 'stage:'
MADE = (CHECKPOINTS, PAIRS, RESULTS)  # by a stage that has begun


def stage_folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """W/<stage>/, or W itself for a config without stages."""
  return workdir if name == ONE_STAGE else workdir / name


def source_folder(source: str, workdir: pathlib.Path) -> pathlib.Path:
  """The folder of 'stage:NAME' or of a path."""
  if source.startswith(STAGE):
    return stage_folder(workdir, source.removeprefix(STAGE))
  return given_path(source, repr(source))


def given_path(path: str | os.PathLike[str], name: str) -> pathlib.Path:
  """A path that a user gives, see `expand`.

  Raises:
    ConfigError: if it begins with a home folder that is unknown.
  """
  try:
    return expand(path, name)
  except ValueError as error:
    raise ConfigError(str(error)) from error


def identity(folder: pathlib.Path) -> tuple[int, int]:
  """Distinguishes a folder from another one that takes its name; (0, 0): none.

  It also stays the same where the files in it are replaced.
  """
  try:
    status = os.stat(folder)
  except OSError:
    return 0, 0
  return status.st_dev, status.st_ino


def stage_names(workdir: pathlib.Path) -> list[str]:
  """The stages of the run in a workdir that have begun, in order."""
  path = workdir / CONFIG
  if not os.path.isfile(path):
    raise ConfigError(
      f'{workdir} must be the folder of a run: there is no {CONFIG} in it'
    )
  names = names_in(read_json(path), path) or [ONE_STAGE]
  begun = [n for n in names if _has_begun(stage_folder(workdir, n))]
  if not begun:
    raise ConfigError(f'{workdir}: none of the stages {names} has begun')
  return begun


def _has_begun(folder: pathlib.Path) -> bool:
  """Whether a stage has a record, which is written before all else.

  Raises:
    DamagedFileError: if only the record is missing: the last stage would not be
      the last any more.
  """
  found = (folder / CONFIG).is_file()
  if not found and any((folder / name).exists() for name in MADE):
    refuse(
      folder,
      f'is damaged: there are results of a stage in it, and no {CONFIG}. '
      'Restore that file, or start the training with its config again',
    )
  return found


def names_in(record: dict[str, Any], path: pathlib.Path) -> list[str]:
  """The stages that a config.json of a run names; [] in that of a stage.

  Raises:
    DamagedFileError: if it is neither.
  """
  if 'stages' not in record:
    config_in(record, path)
    return []
  names = typed(record['stages'], list, path, "'stages'")
  for name in names:
    if pathlib.PurePath(typed(name, str, path, 'a stage')).name != name:
      refuse(path, f'names a stage {name!r}, which is no name of a folder')
  return names


def config_in(record: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
  """The config that a config.json of a stage holds."""
  return fields(record, {'config': dict}, path)['config']


def last_stage(folder: pathlib.Path) -> pathlib.Path:
  """The folder of a run's last stage that trains; also that of a stage."""
  folders = [stage_folder(folder, name) for name in stage_names(folder)]
  trained = [path for path in folders if job_of(path) == TRAIN]
  if not trained:
    raise ConfigError(f'{folder}: no stage has been trained')
  return trained[-1]


def job_of(folder: pathlib.Path) -> str:
  """The kind of the stage in a folder."""
  path = folder / CONFIG
  return config_in(read_json(path), path).get('job', TRAIN)
