"""Overrides on the command line: `--config.train.steps=100`.

One is applied to resolved stages, in which every key stands with its default:
so a key that is not there is wrong, and the message can name the nearest.
"""

import ast
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flowdistill.config import bind
from flowdistill.config.bind import ConfigError, Rooms, Spec, nearest, suggest
from flowdistill.training.lengths import UNITS

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Override:
  """One `--config.PATH=VALUE`.

  Attributes:
    path: the keys, from the outermost.
    value: as Python reads it, or the text where it is no Python.
    text: as it was typed.
  """

  path: Path
  value: Any
  text: str

  def __str__(self) -> str:
    return f'--config.{".".join(self.path)}={self.text}'


def parse_override(name: str, value: str | None) -> Override:
  """'config.a.b' and 'VALUE' -> Override.

  Raises:
    ConfigError: if the name has no key, or there is no value.
  """
  path = tuple(name.split('.'))[1:]
  if not path or not all(path):
    raise ConfigError(f'--{name}: an override is --config.KEY[.KEY...]=VALUE')
  if value is None:
    raise ConfigError(f'--{name} has no value: it is --{name}=VALUE')
  return Override(path, _literal(value), value)


def apply_override(
  stages: dict[str, Spec],
  override: Override,
  types: Mapping[str, Any],
  rooms: Rooms,
  *,
  named: bool,
) -> dict[str, Spec]:
  """Sets a key in the stage that it names, or in every stage that has it.

  The answer is to be resolved again: where a name changed, the options of the
  new one are still to be filled in.

  Args:
    stages: stage name -> resolved spec.
    override: what to set.
    types: stage name -> its annotation.
    rooms: see `bind.py`.
    named: whether the stages have names, or the config is one stage.

  Raises:
    ConfigError: naming the nearest key, if no stage has it; if it is a name
      that differs between the stages, which has to be set in one of them.
  """
  path, among = override.path, stages
  if named and path[0] == 'stages':
    among, path = _named_stage(stages, override), path[2:]
  missing = {
    name: _missing(spec, types[name], path, rooms)
    for name, spec in among.items()
  }
  having = [name for name in among if missing[name] is None]
  if not having:
    raise _no_key([m for m in missing.values() if m], path, override)
  _check_same({name: stages[name] for name in having}, path, override)
  changed = {
    n: _set(stages[n], types[n], path, override.value, rooms) for n in having
  }
  return {**stages, **changed}


def _named_stage(
  stages: dict[str, Spec], override: Override
) -> dict[str, Spec]:
  name = override.path[1] if len(override.path) > 1 else ''
  if name not in stages:
    raise ConfigError(f'{override}: no stage {name!r}; {suggest(name, stages)}')
  if len(override.path) < 3:
    raise ConfigError(
      f'{override}: set a key of the stage, as in '
      f'--config.stages.{name}.train.steps=100'
    )
  return {name: stages[name]}


def _missing(
  spec: Spec, annotation: Any, path: Path, rooms: Rooms
) -> tuple[int, list[str]] | None:
  """How many keys of a path exist, and what could come next; None for all.

  Among entries with any name, such as EMAs, a new one may be set; but not one
  that looks like a slip of the pen.
  """
  for depth, key in enumerate(path):
    known, other = _keys(spec, annotation, rooms)
    if key not in known and (other is None or nearest(key, known)):
      return depth, list(known)
    annotation = known.get(key, other)
    spec = spec.get(key) if isinstance(spec, Mapping) else None
  return None


def _keys(
  spec: Spec, annotation: Any, rooms: Rooms
) -> tuple[dict[str, Any], Any]:
  """Key -> annotation under a resolved spec; and that of any other key."""
  annotation, _ = bind.without_none(annotation)
  if annotation in rooms or dataclasses.is_dataclass(annotation):
    known = {'name': str} if annotation in rooms else {}
    for target in _targets(spec, annotation, rooms):
      known |= {k: o.annotation for k, o in bind.options(target).items()}
    return known, None
  if not isinstance(spec, Mapping):
    return {}, None
  each = bind.each_of(annotation) or Any
  return dict.fromkeys(spec, each), each


def _targets(spec: Spec, annotation: Any, rooms: Rooms) -> Iterable[Any]:
  """What has the keys: all entries of a table whose names may be missing."""
  if annotation not in rooms:
    return [annotation]
  table = rooms[annotation]
  if hasattr(annotation, 'named'):
    return table.values()
  return [table[spec['name']]] if spec else []


def _no_key(
  missing: list[tuple[int, list[str]]], path: Path, override: Override
) -> ConfigError:
  """The error of the stages that have most of the path."""
  depth = max(depth for depth, _ in missing)
  choices = dict.fromkeys(c for d, each in missing if d == depth for c in each)
  above = override.path[: len(override.path) - len(path) + depth]
  where = '.'.join(('config', *above))
  if not choices:
    return ConfigError(f'{override}: {where} is a value, it has no keys')
  return ConfigError(
    f'{override}: {where} has no key {path[depth]!r}; '
    f'{suggest(path[depth], choices)}'
  )


def _check_same(
  stages: Mapping[str, Spec], path: Path, override: Override
) -> None:
  named = path if path[-1] == 'name' else (*path, 'name')
  names = {
    stage: value
    for stage, spec in stages.items()
    for value in _values(spec, named)
  }
  if len(set(names.values())) > 1:
    *_, last = names
    typed = '.'.join(('stages', last, *path))
    raise ConfigError(
      f'{override}: the stages differ in it ({names}); say which, as in '
      f'--config.{typed}={override.text}'
    )


def _values(spec: Spec, path: Path) -> Iterator[Any]:
  """What stands at the end of a path, if anything does."""
  for key in path:
    if not isinstance(spec, Mapping) or key not in spec:
      return
    spec = spec[key]
  yield spec


def _set(
  spec: Spec, annotation: Any, path: Path, value: Any, rooms: Rooms
) -> Spec:
  key, rest = path[0], path[1:]
  if key == 'name':
    return {'name': value}
  spec = _taking(key, spec or {}, annotation, rooms)
  if rest:
    known, other = _keys(spec, annotation, rooms)
    below = known.get(key, other)
    return {**spec, key: _set(spec.get(key), below, rest, value, rooms)}
  dropped = UNITS if key in UNITS else ()
  return {**{k: v for k, v in spec.items() if k not in dropped}, key: value}


def _taking(key: str, spec: Spec, annotation: Any, rooms: Rooms) -> Spec:
  """The spec, or where its name may be missing, one of an entry with a key."""
  if not spec or key in spec or not hasattr(annotation, 'named'):
    return spec
  known = next(
    o for f in rooms[annotation].values() if key in (o := bind.options(f))
  )
  return {k: v for k, v in spec.items() if k in known}


def _literal(value: str) -> Any:
  spelled = {'true': True, 'false': False, 'none': None}
  if value.lower() in spelled:
    return spelled[value.lower()]
  try:
    return ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return value
