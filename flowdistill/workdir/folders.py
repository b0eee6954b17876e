"""The folders of a run, W/<stage>/, and the names of their files."""

import json
import pathlib

from flowdistill.config.bind import ConfigError
from flowdistill.config.files import ONE_STAGE
from flowdistill.config.kinds import TRAIN

CONFIG, RESULTS = 'config.json', 'results.json'
CHECKPOINTS, PAIRS, SAMPLES = 'checkpoints', 'pairs', 'samples'
STAGE = 'stage:'


def stage_folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """W/<stage>/, or W itself for a config without stages."""
  return workdir if name == ONE_STAGE else workdir / name


def source_folder(source: str, workdir: pathlib.Path) -> pathlib.Path:
  """The folder of 'stage:NAME' or of a path."""
  if source.startswith(STAGE):
    return stage_folder(workdir, source.removeprefix(STAGE))
  return pathlib.Path(source).expanduser()


def stage_names(workdir: pathlib.Path) -> list[str]:
  """The stages of the run in a workdir that have begun, in order."""
  path = workdir / CONFIG
  if not path.is_file():
    raise ConfigError(
      f'{workdir} must be the folder of a run: there is no {CONFIG} in it'
    )
  names = json.loads(path.read_text()).get('stages', [ONE_STAGE])
  begun = [n for n in names if (stage_folder(workdir, n) / CONFIG).is_file()]
  if not begun:
    raise ConfigError(f'{workdir}: none of the stages {names} has begun')
  return begun


def last_stage(folder: pathlib.Path) -> pathlib.Path:
  """The folder of a run's last stage that trains; also that of a stage."""
  folders = [stage_folder(folder, name) for name in stage_names(folder)]
  trained = [path for path in folders if job_of(path) == TRAIN]
  if not trained:
    raise ConfigError(f'{folder}: no stage has been trained')
  return trained[-1]


def job_of(folder: pathlib.Path) -> str:
  """The kind of the stage in a folder."""
  config = json.loads((folder / CONFIG).read_text()).get('config', {})
  return config.get('job', TRAIN)
