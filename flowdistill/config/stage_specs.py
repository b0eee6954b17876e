"""The dict of each stage, from the keys that all share and its own."""

import re
from collections.abc import Mapping
from typing import Any

from flowdistill.config import resolve
from flowdistill.config.bind import ConfigError, Spec, join, options
from flowdistill.config.kinds import TRAIN, Kinds, kind_of
from flowdistill.training.lengths import UNITS

ONE_STAGE = 'run'
RESERVED = (ONE_STAGE, 'samples', 'hosts')  # folders with another meaning


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
