"""Checks stages that make pairs, and those that learn from them."""

import pathlib
from collections.abc import Mapping
from typing import Any

from flowdistill.build import objects as build
from flowdistill.build.check_sampling import check_sampling
from flowdistill.config.bind import ConfigError, Spec, join, located, suggest
from flowdistill.config.files import TRAIN
from flowdistill.config.sections import Stage
from flowdistill.datasets.source import Source
from flowdistill.stages.references import (
  before,
  check_knows,
  named,
  origin_state,
  weights_at,
)


def check_pair_stage(
  name: str, stages: Mapping[str, Spec], workdir: pathlib.Path, where: str
) -> None:
  """Checks a stage that makes pairs; see `check_stages`."""
  stage = build.bind_pairs(stages[name], where)
  source = stage.dataset()
  backwards = stage.direction == 'from_data'
  if backwards and stage.count > len(source):
    raise ConfigError(
      f'config.{join(where, "count")} = {stage.count}: the flow goes back from '
      f'{len(source)} images, and has no more'
    )
  if stage.teacher is None:
    return
  key = join(where, 'teacher')
  earlier = before(name, stages)
  found = origin_state(stage.teacher, key, stages=earlier, workdir=workdir)
  weights_at(stage.teacher, found[1], key)
  check_knows(found[2], source, f'{key} = {stage.teacher.source!r}')
  with located(where):
    check_sampling(
      found[0],
      source,
      stage.sampler,
      stage.nfe,
      stage.options,
      backwards=backwards,
    )


def check_pairs(
  stage: Stage, source: Source, earlier: Mapping[str, Spec], where: str
) -> None:
  """Refuses pairs of other examples than those of the data set."""
  if stage.pairs is None:
    return
  key = join(where, 'pairs')
  makers = {
    f'stage:{name}': spec
    for name, spec in earlier.items()
    if spec['job'] != TRAIN
  }
  spec = makers.get(stage.pairs)
  if spec is None and stage.pairs.startswith('stage:'):
    raise ConfigError(
      f'config.{key} = {stage.pairs!r} is no earlier stage that makes pairs; '
      f'{suggest(stage.pairs, makers)}'
    )
  with named(key):
    pairs: Any = (
      build.build_pairs(pathlib.Path(stage.pairs).expanduser())
      if spec is None
      else build.bind_pairs(spec).dataset()
    )
  check_knows(pairs, source, f'{key} = {stage.pairs!r}')
  if source.num_classes and not pairs.num_classes:
    raise ConfigError(
      f'config.{key} = {stage.pairs!r} has no labels, and this data set has '
      f'{source.num_classes} classes'
    )
