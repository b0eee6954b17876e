"""Keys that are set for the whole run, and have no effect in some stages.

What a config says for all its stages, or an override that names none, such as
`--config.seed=1`, is for the stages in which it has an effect; the others keep
the default. What is said of one stage is left to the check of that stage, which
refuses it, and so is what has no effect in any.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flowdistill.config.bind import Spec
from flowdistill.config.overrides import Override, Path


def without_idle(
  stages: Mapping[str, Spec],
  raw: Mapping[str, Any],
  overrides: Iterable[Override],
  types: Mapping[str, Any],
) -> dict[str, Spec]:
  """The stages without such keys; resolve the result, for their defaults.

  Args:
    stages: name -> resolved dict.
    raw: the config as its file returns it.
    overrides: all that were applied.
    types: name of a stage -> its section, with `idle(spec)`: the keys that have
      no effect in a stage.
  """
  typed = [o.path[1:] for o in overrides if o.path[0] == 'stages']
  idle = {name: types[name].idle(spec) for name, spec in stages.items()}

  def is_for_others(name: str, path: Path) -> bool:
    own = raw['stages'].get(name, {})
    said = has(own, path) or any(starts((name, *path), o) for o in typed)
    others = [n for n in stages if '.'.join(path) not in idle[n]]
    return not said and any(has(stages[n], path) for n in others)

  found = dict(stages)
  for name in stages if 'stages' in raw else ():
    for path in (tuple(key.split('.')) for key in idle[name]):
      if is_for_others(name, path):
        found[name] = without(found[name], path)
  return found


def has(spec: Any, path: Path) -> bool:
  """Whether a dict says something of a key, or of all that is above it."""
  if not path or not isinstance(spec, Mapping):
    return spec is not None
  return path[0] in spec and has(spec[path[0]], path[1:])


def starts(path: Path, typed: Path) -> bool:
  """Whether one of two paths begins with the other."""
  return all(a == b for a, b in zip(path, typed, strict=False))


def without(spec: Spec, path: Path) -> Spec:
  """A dict without a key that it may have."""
  key, *rest = path
  kept = {k: v for k, v in spec.items() if k != key}
  if rest and isinstance(spec.get(key), Mapping):
    return {**kept, key: without(spec[key], tuple(rest))}
  return kept
