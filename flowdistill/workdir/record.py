"""config.json: the config and data of a stage, and which may change."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flowdistill.build.data import DataRecord
from flowdistill.build.tables import resolve_stage
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.stage_specs import differences
from flowdistill.files.json_reader import fields, read_json, refuse, typed
from flowdistill.training.json_files import jsonable, write_json
from flowdistill.training.lengths import UNITS
from flowdistill.workdir.environment import environment
from flowdistill.workdir.folders import CONFIG, RESULTS, names_in

MAY_CHANGE = dict.fromkeys(('mesh', 'hosts'))  # sections about devices
INTERVALS = {'evaluation': ('every', 'schedules'), 'checkpoint': ('every',)}
"""Section -> its options that change nothing that is learnt."""
OFFLOAD = 'offload'  # of references: in which memory weights are
LOCAL = ('path', 'batch_size', 'tile', 'tile_overlap')
"""Options of a space that change no latents."""


def read_record(folder: pathlib.Path) -> dict[str, Any]:
  """The config.json of a stage."""
  path = folder / CONFIG
  return dict(fields(read_json(path), {'config': dict}, path))


def load_spec(folder: pathlib.Path) -> Spec:
  """The resolved config of a stage's folder; its keys must still exist."""
  record = read_record(folder)
  try:
    return resolve_stage(record['config'])
  except ConfigError as error:
    raise ConfigError(f'{folder / CONFIG}: {error}') from error


def load_data(folder: pathlib.Path) -> DataRecord | None:
  """The data record of a stage's folder; None if there is none."""
  if not (folder / CONFIG).is_file():
    return None
  path = folder / CONFIG
  if (record := read_json(path).get('data')) is None:
    return None
  try:
    data = DataRecord.of(record)
    lengths = (*data.spec.shape, *(() if data.size is None else (data.size,)))
    lengths += data.pictures or ()
    if all(type(n) is int and n >= 0 for n in lengths):
      return data
    raise ValueError(f'{lengths} must be integers of at least 0')
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    refuse(path, f"has a 'data' that cannot be read: {error!r}", error)


def known_data(dataset: Spec, folder: pathlib.Path) -> DataRecord | None:
  """What a folder records of a data set of its config, None of another.

  The examples of `evaluation.dataset` have the same spec; training checked it.
  """
  record = load_data(folder)
  if record is None:
    return None
  # Keys that are newer than the folder get their defaults.
  config, wanted = jsonable(load_spec(folder)), jsonable(dataset)
  if wanted == config.get('dataset'):
    return record
  held_out = config.get('evaluation', {}).get('dataset')
  if wanted != held_out:
    return None
  if wanted['name'] == config['dataset']['name']:
    return dataclasses.replace(record, size=None)
  return DataRecord(record.images, None)  # of latents, as images


def check_unchanged(spec: Spec, folder: pathlib.Path) -> None:
  """Refuses a folder of another config; only the length may grow.

  Mesh and hosts may change: a checkpoint is restored onto any. So may how often
  a stage is evaluated and saved, the memory of frozen weights, and the place of
  the weights of a space, whose SHA-256 is compared elsewhere.
  """
  if not (folder / CONFIG).is_file():
    return
  if names := names_in(read_json(folder / CONFIG), folder / CONFIG):
    raise ConfigError(
      f'{folder} holds a run of the stages {names}; take another --workdir'
    )
  # Keys that are newer than the folder get their defaults.
  old, new = map(_lasting, (load_spec(folder), spec))
  lines = differences(old, new)
  if lines and not _only_longer(old, new):
    raise ConfigError(
      f'{folder} was made with another config: {"; ".join(lines)}. Take '
      'another --workdir, or the old values (only the length may grow, and '
      'evaluation.every and checkpoint.every change)'
    )


def _lasting(spec: Spec) -> Spec:
  """A resolved config, without what may change."""
  kept = {
    name: {k: v for k, v in spec[name].items() if k not in intervals}
    for name, intervals in INTERVALS.items()
    if spec.get(name)
  }
  if 'space' in spec:
    kept['space'] = without_local(spec['space'])
  return {**without_offload(jsonable({**spec, **kept})), **MAY_CHANGE}


def without_offload(config: Any) -> Any:
  """A config without where its frozen weights are kept."""
  if isinstance(config, list):
    return [*map(without_offload, config)]
  if not isinstance(config, dict):
    return config
  rest = {k: v for k, v in config.items() if k != OFFLOAD}
  return {k: without_offload(v) for k, v in rest.items()}


def without_local(space: Spec) -> Spec:
  """The options of a space that its latents depend on."""
  return {k: v for k, v in space.items() if k not in LOCAL}


def _only_longer(old: Spec, new: Spec) -> bool:
  if 'train' not in old:
    return False
  was = {unit: old['train'][unit] for unit in UNITS}
  now = {unit: new['train'][unit] for unit in UNITS}
  same = {**new, 'train': {**new['train'], **was}}
  longer = all((was[u] is None) == (now[u] is None) for u in was) and all(
    now[u] >= was[u] for u in was if was[u] is not None
  )
  return longer and not differences(old, same)


def recorded_references(folder: pathlib.Path) -> dict[str, str]:
  """Role -> origin of the frozen weights of a stage; {} before it began.

  Those that the LoRA of a role adapts are at `base_key`.
  """
  path = folder / CONFIG
  if not path.is_file():
    return {}
  record = read_record(folder)
  was = record.get('references', record.get('origins', {}))
  typed(was, dict, path, "'references'")
  return {k: typed(v, str, path, f'the origin of {k}') for k, v in was.items()}


def base_key(name: str) -> str:
  """The key of the origin of the weights that a role's LoRA adapts."""
  return f'{name}.init_from'


def weights_of_space(digest: str) -> str:
  """The origin of the weights of a space, by their SHA-256."""
  return f'weights of sha256 {digest}'


def check_references(
  folder: pathlib.Path, references: Mapping[str, str]
) -> None:
  """Refuses to continue with other frozen weights than at the start."""
  if not (folder / CONFIG).is_file():
    return
  was = recorded_references(folder)
  if lines := differences(was, dict(references), 'frozen'):
    raise ConfigError(
      f'{folder} was trained from other weights: {"; ".join(lines)}. Take '
      'another --workdir, or remove that folder'
    )


def check_data(folder: pathlib.Path, data: DataRecord) -> None:
  """Refuses to continue with other classes, or other conditions.

  A class folder that is added, removed or renamed changes what labels mean.
  """
  record = load_data(folder)
  if record is None or record.spec == data.spec:
    return
  was, now = record.spec.classes, data.spec.classes
  lines = [
    f'{title} {[name for name in one if name not in other]}'
    for title, one, other in (('gone are', was, now), ('new are', now, was))
    if set(one) - set(other)
  ]
  if was == now or not lines:
    lines = [f'the data was {record.spec}, and is {data.spec}']
    if record.spec.text != data.spec.text:
      lines.append('their captions are encoded by other options, or words')
  raise ConfigError(
    f'{folder} was trained on other classes, or other examples: '
    f'{"; ".join(lines)}. Restore the names, or take another --workdir'
  )


def write_record(
  folder: pathlib.Path,
  spec: Spec,
  references: Mapping[str, str],
  data: DataRecord,
) -> None:
  """Writes config.json, and removes results of a shorter training."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / RESULTS).unlink(missing_ok=True)
  record: dict[str, Any] = {
    'config': spec,
    'data': data.to_json(),
    'references': references,
    'environment': environment(),
  }
  write_json(folder / CONFIG, record)


def keep_record(folder: pathlib.Path, spec: Spec, data: DataRecord) -> None:
  """Writes config.json, unless it says the same; see `check_unchanged`."""
  known = (folder / CONFIG).is_file()
  if not known or jsonable(load_spec(folder)) != jsonable(spec):
    write_record(folder, spec, {}, data)


def write_run_record(workdir: pathlib.Path, stages: Sequence[str]) -> None:
  """Writes W/config.json, which names the stages of a run."""
  workdir.mkdir(parents=True, exist_ok=True)
  record = {'stages': list(stages), 'environment': environment()}
  write_json(workdir / CONFIG, record)
