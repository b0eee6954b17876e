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
  suggest,
)
from flowdistill.config.idle import without_idle
from flowdistill.config.kinds import Kinds, kind_of
from flowdistill.config.overrides import Override, apply_override
from flowdistill.config.stage_specs import split_stages
from flowdistill.config.tiny import RUNLOCAL, keep_tiny
from flowdistill.flow.noise import check_seed

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
