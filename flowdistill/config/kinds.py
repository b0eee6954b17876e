"""Kinds of stages: their keys in a config, and the functions that run them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flowdistill.config.bind import ConfigError, Spec, join, suggest
from flowdistill.config.resolve import shown

TRAIN, PAIRS, ENCODE = 'train', 'pairs', 'encode'


@dataclasses.dataclass(frozen=True)
class Kind:
  """A row of the table of kinds, `stages/kinds.py`.

  Attributes:
    section: dataclass of the keys that a config may set.
    check: check(blueprints, name), before any device is touched.
    make: make(blueprints, name, watchdog, extras) does the stage's work.
    tiny: resolved spec -> the same at toy size, for `:runlocal`.
  """

  section: type
  check: Callable[..., None]
  make: Callable[..., Any]
  tiny: Callable[[dict[str, Any]], dict[str, Any]]


Kinds = Mapping[str, Kind]
"""Value of the key `job` -> kind."""


def kind_of(spec: Any, kinds: Mapping[str, Any], where: str = '') -> Any:
  """The row of a stage in a table of kinds."""
  job = spec.get('job', TRAIN) if isinstance(spec, Mapping) else TRAIN
  if not isinstance(job, str) or job not in kinds:
    raise ConfigError(
      f'config.{join(where, "job")} = {shown(job)} does not exist; '
      f'{suggest(job, kinds)}'
    )
  return kinds[job]


def trained(stages: Mapping[str, Spec]) -> dict[str, Spec]:
  """The stages that train a network, in order."""
  return {name: spec for name, spec in stages.items() if spec['job'] == TRAIN}
