"""Checks a stage that makes pairs, abstractly."""

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.config.bind import ConfigError, located
from flowdistill.config.stages import TEACHER
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_fit import check_knows
from flowdistill.stages.space import check_space


def check_pairs(blueprints: Blueprints, name: str) -> None:
  """Checks the teacher of the pairs, its guide and the options of sampling."""
  blueprint = blueprints[name]
  stage, data = blueprint.stage, blueprint.data
  check_space(blueprint)
  backwards = stage.direction == 'from_data'
  if stage.direction != 'from_noise' and data.record.stream:
    raise ConfigError(
      f'config.{blueprint.key("direction")} = {stage.direction!r} must be '
      "'from_noise': the data set is a stream, without an index"
    )
  if backwards and stage.count > len(data):
    raise ConfigError(
      f'config.{blueprint.key("count")} = {stage.count} must be at most '
      f'{len(data)}, the size of the data set, for from_data'
    )
  for role in stage.frozen:
    _check_drawable(blueprint, role)
  against = ''
  if stage.teacher is not None:
    with located(blueprint.where, ('sampler', 'nfe')):
      against = plan_sampling(
        stage.sampler,
        stage.nfe,
        stage.options,
        spec=blueprint.sees,
        scalars=blueprint.weights(TEACHER).model.scalars,
        answers=blueprint.answers(TEACHER),
        guides=lambda: blueprint.guides_of(TEACHER),
        backwards=backwards,
      ).against
  for role in stage.guides:
    if role != against:
      raise ConfigError(
        f'config.{blueprint.key(stage.key_of(role))} has no effect: options '
        f"has no guidance like {{'scale': 1.5, 'against': {role!r}}}"
      )


def _check_drawable(blueprint: Blueprint, role: str) -> None:
  """The network of a role must know the examples, and give samples."""
  reference, key = blueprint.reference(role)
  where, weights = f'{key} = {reference.source!r}', blueprint.weights(role)
  if weights.stage is None or role not in blueprint.drawable:
    raise ConfigError(f'config.{where} must be a network that can be sampled')
  check_knows(weights.stage.sees, blueprint.sees, where)
