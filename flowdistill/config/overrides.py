"""Overrides on the command line: `--config.train.steps=100`.

An override is applied to resolved stages, which have every key with its
default: a key that is absent is wrong, and the message names the nearest.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flowdistill.config import bind
from flowdistill.config.bind import ConfigError, Rooms, Spec, nearest, suggest
from flowdistill.config.typed import read
from flowdistill.training.lengths import UNITS

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Override:
  """One `--config.PATH=VALUE`.

  Attributes:
    path: the keys, from the outermost.
    text: the value as typed; its key says what it means.
  """

  path: Path
  text: str

  def __str__(self) -> str:
    return f'--config.{".".join(self.path)}={self.text}'


def parse_override(name: str, value: str | None) -> Override:
  """'config.a.b' and 'VALUE' -> Override."""
  path = tuple(name.split('.'))[1:]
  if not path or not all(path):
    raise ConfigError(f'--{name} must have the form --config.KEY[.KEY]=VALUE')
  if value is None:
    raise ConfigError(f'--{name} must have a value: --{name}=VALUE')
  return Override(path, value)


def apply_override(
  stages: dict[str, Spec],
  override: Override,
  types: Mapping[str, Any],
  rooms: Rooms,
  *,
  named: bool,
) -> dict[str, Spec]:
  """Sets a key in the stage that the override names, or in all that have it.

  `types` is stage name -> annotation, `named` whether the config has stages.
  Resolve the result: the options of a new name are not filled in.

  Raises:
    ConfigError: if no stage has the key, or if it belongs to entries of
      different names, so that the override must name a stage.
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
    n: _set(stages[n], types[n], path, override.text, rooms) for n in having
  }
  return {**stages, **changed}


def _named_stage(
  stages: dict[str, Spec], override: Override
) -> dict[str, Spec]:
  name = override.path[1] if len(override.path) > 1 else next(iter(stages))
  if name not in stages:
    raise ConfigError(
      f'{override}: stage {name!r} does not exist; {suggest(name, stages)}'
    )
  if len(override.path) < 3:
    raise ConfigError(
      f'{override} must set a key of a stage, as in '
      f'--config.stages.{name}.train.steps=100'
    )
  return {name: stages[name]}


def _missing(
  spec: Spec, annotation: Any, path: Path, rooms: Rooms
) -> tuple[int, list[str]] | None:
  """How many keys of a path exist, and the next choices; None if all exist.

  Among entries of any name, such as EMAs, a new name may be set, unless it is
  similar to an existing one: that is probably a typing error.
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
  """Key -> annotation under a resolved spec, and that of all other keys."""
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
  """The functions whose options are keys: all, if a name may be missing."""
  if annotation not in rooms:
    return [annotation]
  table = rooms[annotation]
  if hasattr(annotation, 'named'):
    return table.values()
  return [table[spec['name']]] if spec else []


def _no_key(
  missing: list[tuple[int, list[str]]], path: Path, override: Override
) -> ConfigError:
  """The error of the stages that have the longest part of the path."""
  depth = max(depth for depth, _ in missing)
  choices = dict.fromkeys(c for d, each in missing if d == depth for c in each)
  above = override.path[: len(override.path) - len(path) + depth]
  where = '.'.join(('config', *above))
  if not choices:
    return ConfigError(f'{override}: {where} is a value without keys')
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
      f'{override} must name a stage, as they differ ({names}): for example '
      f'--config.{typed}={override.text}'
    )


def _values(spec: Spec, path: Path) -> Iterator[Any]:
  """Yields the value at a path, if it exists."""
  for key in path:
    if not isinstance(spec, Mapping) or key not in spec:
      return
    spec = spec[key]
  yield spec


def _set(
  spec: Spec, annotation: Any, path: Path, text: str, rooms: Rooms
) -> Spec:
  key, rest = path[0], path[1:]
  if key == 'name' and bind.without_none(annotation)[0] in rooms:
    return {'name': read(text, str)}
  spec = _with_key(key, spec or {}, annotation, rooms)
  known, other = _keys(spec, annotation, rooms)
  below = known.get(key, other)
  if rest:
    return {**spec, key: _set(spec.get(key), below, rest, text, rooms)}
  dropped = UNITS if key in UNITS else ()
  kept = {k: v for k, v in spec.items() if k not in dropped}
  return {**kept, key: read(text, below)}


def _with_key(key: str, spec: Spec, annotation: Any, rooms: Rooms) -> Spec:
  """The spec; if its name may be missing, reduced to an entry with the key."""
  if not spec or key in spec or not hasattr(annotation, 'named'):
    return spec
  known = next(
    o for f in rooms[annotation].values() if key in (o := bind.options(f))
  )
  return {k: v for k, v in spec.items() if k in known}
