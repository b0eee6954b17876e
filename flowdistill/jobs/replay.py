"""`--job=replay`: runs the failed step of a stage again."""

import dataclasses

from flowdistill.config.bind import ConfigError
from flowdistill.stages import failure
from flowdistill.stages.assembly import assemble
from flowdistill.stages.blueprints import Blueprints
from flowdistill.workdir.folders import FAILURE
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Options:
  """None: the first stage with a failed step is replayed."""


def run(blueprints: Blueprints, options: Options) -> str:
  """Names the step that failed and the first module that is not finite."""
  del options
  for name in blueprints.trained:
    if (blueprints.folder(name) / FAILURE).is_dir():
      assembly = assemble(blueprints[name], blueprints.workdir)
      line = f'{name}: {failure.replay(assembly)}'
      say(line)
      return line
  raise ConfigError(
    f'no step has failed in {blueprints.workdir}: nothing to replay'
  )
