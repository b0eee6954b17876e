"""Config files, arguments and overrides, down to one plain dict per stage.

A config file has `get_config(arg) -> ConfigDict`. Its `stages` are ordered and
named; every other top-level key is shared by all of them. An override
`--config.train.steps=100` applies to every stage that has the key, an override
`--config.stages.distil.train.steps=100` to that stage only. An annotation (see
`bind.py`) defines the keys of a stage, so nothing here knows a name.
"""

import codecs
import contextlib
import importlib.util
import json
import pathlib
import re
import traceback
import types
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import resolve
from flowdistill.config.bind import (
  ConfigError,
  Rooms,
  Spec,
  join,
  located,
  options,
  suggest,
)
from flowdistill.config.idle import without_idle
from flowdistill.config.kinds import TRAIN, Kinds, kind_of
from flowdistill.config.overrides import Override, apply_override
from flowdistill.config.tiny import RUNLOCAL, keep_tiny
from flowdistill.flow.noise import check_seed
from flowdistill.training.lengths import UNITS

ONE_STAGE = 'run'
RESERVED = (ONE_STAGE, 'samples', 'hosts')  # folders with another meaning
# A config file is the user's code: whatever it raises is a mistake in it.
MISTAKES = (Exception, SystemExit)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def load_stages(
  source: str, overrides: Iterable[Override], kinds: Kinds, rooms: Rooms
) -> dict[str, Spec]:
  """Reads 'FILE.py[:arg,arg]' and returns stage name -> resolved dict."""
  raw, tiny = read_config(source)
  overrides = list(overrides)
  named = 'stages' in raw

  def resolve_all(stages: Mapping[str, Spec]) -> dict[str, Spec]:
    where = {name: f'stages.{name}' if named else '' for name in stages}
    return {
      name: resolve.resolve(
        spec, kind_of(spec, kinds, where[name]).section, where[name], rooms
      )
      for name, spec in stages.items()
    }

  stages = resolve_all(split_stages(raw, kinds))
  if tiny:
    stages = {n: kind_of(s, kinds).tiny(s) for n, s in stages.items()}
  for override in overrides:
    types = {n: kind_of(s, kinds).section for n, s in stages.items()}
    changed = apply_override(stages, override, types, rooms, named=named)
    before, stages = stages, resolve_all(changed)
    if tiny:
      stages = {n: keep_tiny(before[n], spec) for n, spec in stages.items()}
  types = {name: kind_of(s, kinds).section for name, s in stages.items()}
  stages = resolve_all(without_idle(stages, raw, overrides, types))
  for name, spec in stages.items():
    check_seeds(spec, f'stages.{name}' if named else '')
  return stages


def check_seeds(spec: Spec, where: str) -> None:
  """Checks what is called a seed, in a stage and below it.

  Not in `resolve`: a run of older versions, whose larger seed was taken modulo
  2³² for the noise, can still be read.
  """
  for key, value in spec.items() if isinstance(spec, Mapping) else ():
    if key == 'seed' and not isinstance(value, Mapping):
      with located(where, ['seed']):
        check_seed(value)
    check_seeds(value, join(where, key))


def read_config(source: str) -> tuple[dict[str, Any], bool]:
  """The raw config of 'FILE.py[:args]', and whether it has `runlocal`.

  Raises:
    ConfigError: for a file that does not exist or fails, or a URL.
  """
  if re.match(r'[a-zA-Z][\w+.-]*://', source):
    raise ConfigError(
      f'--config={source} must be a local file: a config is code, and code '
      'from a URL is never run; save it, read it, and pass the path'
    )
  file, colon, arg = source.partition('.py:')
  path = pathlib.Path(f'{file}.py' if colon else source)
  if path.is_file() and path.suffix != '.py':
    raise ConfigError(
      f'--config={source} must be a Python file, *.py, with a get_config; a '
      'run is named by --workdir alone'
    )
  if not path.is_file():
    raise ConfigError(
      f'--config={source}: there is no file {path}{_near_file(path)}'
    )
  args = [a for a in arg.split(',') if a]
  rest = ','.join(a for a in args if a != RUNLOCAL)
  with _running(path):
    config = _to_plain(_import(path).get_config(rest))
  if not isinstance(config, Mapping):
    raise ConfigError(
      f'{path}: get_config returned {resolve.shown(config)}; it must return a '
      'ConfigDict'
    )
  return dict(config), RUNLOCAL in args


def choose(arg: str, choices: Mapping[str, Any], default: str = '') -> Any:
  """The choice that a config's argument names; for use in config files."""
  arg = arg or default
  if arg not in choices:
    known = [*(c for c in choices if c), RUNLOCAL]
    raise ConfigError(f'config argument {arg!r}: {suggest(arg, known)}')
  return choices[arg]


def beside(file: str, name: str) -> Any:
  """The module NAME.py in the folder of a config file.

  Config files of one folder share code: `road = beside(__file__, 'road')`.
  """
  return _import(pathlib.Path(file).with_name(f'{name}.py'))


def split_stages(
  raw: Mapping[str, Any], kinds: Kinds
) -> dict[str, dict[str, Any]]:
  """Stages in the order in which they run, each with the shared keys.

  A stage of another kind ignores the shared keys that only training has.

  Raises:
    ConfigError: if there is no stage, or all stages override a shared key.
  """
  if 'stages' not in raw:
    return {ONE_STAGE: dict(raw)}
  shared = {k: v for k, v in raw.items() if k != 'stages'}
  stages = raw['stages']
  if not isinstance(stages, Mapping) or not stages:
    raise ConfigError(
      f'config.stages = {resolve.shown(stages)} must have at least one stage'
    )
  for name in stages:
    if not re.fullmatch(r'[\w-]+', str(name)) or name in RESERVED:
      raise ConfigError(
        f'config.stages has {name!r}: the name of a stage must consist of '
        f'letters, digits, _ and -, and must not be {", ".join(RESERVED)}'
      )
  for key in shared:
    if all(_overrules(stage, key, shared[key]) for stage in stages.values()):
      raise ConfigError(
        f'config.{key} has no effect: every stage has its own {key!r}'
      )
  return {
    name: _merge(_known(shared, stages[name], kinds), stages[name])
    for name in _ordered(stages)
  }


def differences(old: Spec, new: Spec, where: str = '') -> list[str]:
  """'config.a.b was 1, is 2', for every key that differs."""
  if not isinstance(old, Mapping) or not isinstance(new, Mapping):
    same = _listed(old) == _listed(new)
    return [] if same else [f'config.{where} was {old!r}, is {new!r}']
  return [
    line
    for key in dict.fromkeys([*old, *new])
    for line in differences(old.get(key), new.get(key), join(where, key))
  ]


@contextlib.contextmanager
def _running(path: pathlib.Path) -> Generator[None]:
  """Reports an exception in a config file with its line and type."""
  try:
    yield
  except ConfigError:
    raise
  except MISTAKES as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == str(path)]
    if isinstance(error, SyntaxError) and error.lineno:
      lines.append(error.lineno)
    line = f', line {lines[-1]}' if lines else ''
    kind = type(error).__name__
    raise ConfigError(f'{path}{line}: {kind}: {error}') from error


def _import(path: pathlib.Path) -> Any:
  # Not through importlib, which leaves a cache beside the file.
  module = types.ModuleType(path.stem)
  module.__file__ = str(path)
  exec(compile(_text(path), path, 'exec'), module.__dict__)
  return module


def _text(path: pathlib.Path) -> str:
  """The source, with or without a mark of its encoding or a coding line."""
  data = path.read_bytes()
  if data.startswith(UTF_16) or b'\0' in data:
    raise ConfigError(
      f'{path} must be a text file in UTF-8, not UTF-16 or else'
    )
  try:
    return importlib.util.decode_source(data)
  except (SyntaxError, UnicodeDecodeError) as error:
    raise ConfigError(
      f'{path} must be in UTF-8, or name its encoding in the first line, as '
      f'# coding: latin-1: {error}'
    ) from error


def _near_file(path: pathlib.Path) -> str:
  folders = {path if path.is_dir() else path.parent, pathlib.Path('configs')}
  files = sorted(p for folder in folders for p in folder.glob('*.py'))
  configs = [str(p) for p in files if _has_get_config(p)]
  return f'; {suggest(path, configs)}' if configs else ''


def _has_get_config(path: pathlib.Path) -> bool:
  try:
    return b'def get_config' in path.read_bytes()
  except OSError:  # a folder, or a file of others
    return False


def _to_plain(value: Any) -> Any:
  """A ConfigDict as dicts whose keys are in the order of the config file.

  A ConfigDict always sorts the keys of nested dicts; its JSON does not.
  """
  if isinstance(value, Mapping):
    return {key: _to_plain(v) for key, v in value.items()}
  if not isinstance(value, ConfigDict):
    return value
  return _as_in(json.loads(value.to_json_best_effort()), value.to_dict())


def _as_in(written: Any, value: Any) -> Any:
  if not isinstance(value, Mapping):
    return value
  by_text = {str(key): key for key in value}
  return {by_text[k]: _as_in(written[k], value[by_text[k]]) for k in written}


def _known(shared: Spec, stage: Spec, kinds: Kinds) -> Spec:
  known = options(kind_of(stage, kinds).section)
  foreign = options(kinds[TRAIN].section).keys() - known.keys()
  return {key: value for key, value in shared.items() if key not in foreign}


def _ordered(stages: Mapping[str, Any]) -> list[str]:
  """The order of the config, but a stage after those that it refers to."""
  waiting, done = list(stages), []
  while waiting:
    ready = [s for s in waiting if not _references(stages[s]) & set(waiting)]
    if not ready:
      raise ConfigError(
        f'config.stages: the references of {waiting} must not form a cycle'
      )
    done.append(ready[0])
    waiting.remove(ready[0])
  return done


def _references(spec: Any) -> set[str]:
  if isinstance(spec, Mapping):
    return set().union(*map(_references, spec.values()))
  marked = isinstance(spec, str) and spec.startswith('stage:')
  return {spec.removeprefix('stage:')} if marked else set()


def _overrules(stage: Spec, key: str, shared: Spec) -> bool:
  if not isinstance(stage, Mapping) or key not in stage:
    return False
  return not isinstance(shared, Mapping) or _replaces(shared, stage[key])


def _replaces(old: Mapping[str, Any], new: Any) -> bool:
  """Whether `new` has another name, so that no option of `old` applies."""
  if not isinstance(new, Mapping):
    return True
  return 'name' in old and new.get('name', old['name']) != old['name']


def _merge(shared: Spec, own: Spec) -> Spec:
  if not isinstance(shared, Mapping) or _replaces(shared, own):
    return own
  dropped = UNITS if set(UNITS) & set(own) else ()
  rest = {key: value for key, value in shared.items() if key not in dropped}
  merged = {k: _merge(rest[k], own[k]) for k in own if k in rest}
  return {**rest, **own, **merged}


def _listed(value: Any) -> Any:
  return (
    [_listed(v) for v in value] if isinstance(value, list | tuple) else value
  )
