"""Checks a stage that is trained without its pictures."""

from collections.abc import Collection, Mapping

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError

X0 = 'x0'


def check_data_free(
  blueprint: Blueprint, read: Mapping[str, Collection[str]]
) -> None:
  """Checks the key `train.data_free`.

  Args:
    blueprint: of the stage.
    read: role that learns -> the arrays of a batch that its objective reads.

  Raises:
    ConfigError: if it has no effect, the conditions cannot be read alone, or an
      objective reads the pictures.
  """
  if not blueprint.stage.train.data_free:
    return
  key = f'config.{blueprint.key("train.data_free")}'
  if blueprint.stage.pairs is not None:
    raise ConfigError(
      f'{key} has no effect: the stage is trained on pairs, not on the data set'
    )
  if blueprint.data.record.stream:
    raise ConfigError(
      f'{key} = True must go with a data set that has an index: the conditions '
      'of a stream are read with its pictures'
    )
  for role in read:
    if X0 in read[role]:
      own = blueprint.learner_key(role, 'objective')
      name = blueprint.learner_spec(role)['objective']['name']
      raise ConfigError(
        f'{key} = True must go with objectives that read no picture, such as '
        f"'twinflow' with data_free = True; config.{own} = {name!r} reads them"
      )
