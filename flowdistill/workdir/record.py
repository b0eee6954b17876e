"""What a stage's folder was made with, and what may not change in it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flowdistill.config import files as config
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.training.files import environment, jsonable, write_json
from flowdistill.training.lengths import UNITS
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CONFIG

RESULTS = 'results.json'


MAY_CHANGE = dict.fromkeys(('mesh', 'hosts'))  # where it runs


def check_unchanged(spec: Spec, folder: pathlib.Path) -> None:
  """Refuses a folder that another config made; only its length may grow.

  Mesh and hosts may be others: a checkpoint is restored onto any.

  Raises:
    ConfigError: with the keys that differ.
  """
  if not (folder / CONFIG).is_file():
    return
  old = json.loads((folder / CONFIG).read_text())
  if 'config' not in old:
    raise ConfigError(
      f'{folder} holds a run of the stages {old["stages"]}; take another '
      '--workdir'
    )
  # Keys that came after it was made have their defaults.
  old = {**jsonable(origins.load_spec(folder)), **MAY_CHANGE}
  new = {**jsonable(spec), **MAY_CHANGE}
  lines = config.differences(old, new)
  if lines and not _only_longer(old, new):
    raise ConfigError(
      f'{folder} was made with another config: {"; ".join(lines)}. Take '
      'another --workdir, or the old values (only the length may grow)'
    )


def _only_longer(old: Spec, new: Spec) -> bool:
  if 'train' not in old:
    return False
  was = {unit: old['train'][unit] for unit in UNITS}
  now = {unit: new['train'][unit] for unit in UNITS}
  same = {**new, 'train': {**new['train'], **was}}
  longer = all((was[u] is None) == (now[u] is None) for u in was) and all(
    now[u] >= was[u] for u in was if was[u] is not None
  )
  return longer and not config.differences(old, same)


def check_origins(folder: pathlib.Path, origins: Mapping[str, str]) -> None:
  """Refuses to go on from weights other than those that it began with.

  Raises:
    ConfigError: naming the role, what it was and what it is.
  """
  path = folder / CONFIG
  if not path.is_file():
    return
  old = json.loads(path.read_text())['origins']
  lines = config.differences(old, dict(origins), 'frozen')
  if lines:
    raise ConfigError(
      f'{folder} was trained from other weights: {"; ".join(lines)}. Take '
      'another --workdir, or remove that folder'
    )


def record(
  folder: pathlib.Path, spec: Spec, origins: Mapping[str, str]
) -> None:
  """Writes config.json; what was measured on fewer steps is removed."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / RESULTS).unlink(missing_ok=True)
  made: dict[str, Any] = {
    'config': spec,
    'origins': origins,
    'environment': environment(),
  }
  write_json(folder / CONFIG, made)


def record_run(workdir: pathlib.Path, stages: list[str]) -> None:
  """Writes W/config.json, which says which stages a run has."""
  workdir.mkdir(parents=True, exist_ok=True)
  made = {'stages': stages, 'environment': environment()}
  write_json(workdir / CONFIG, made)
