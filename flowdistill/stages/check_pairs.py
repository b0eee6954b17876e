"""Checks a stage that makes pairs, abstractly."""

from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.config.bind import ConfigError, located
from flowdistill.config.stages import TEACHER
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check import check_knows
from flowdistill.stages.space import check_space


def check_pairs(blueprints: Blueprints, name: str) -> None:
  """Checks the teacher of the pairs and the options of sampling."""
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
  if stage.teacher is None:
    return
  reference, key = blueprint.reference(TEACHER)
  teacher = blueprint.weights(TEACHER)
  where = f'{key} = {reference.source!r}'
  check_knows(teacher.stage.sees, blueprint.sees, where)
  with located(blueprint.where, ('sampler', 'nfe')):
    plan_sampling(
      stage.sampler,
      stage.nfe,
      stage.options,
      spec=blueprint.sees,
      scalars=teacher.model.scalars,
      backwards=backwards,
    )
