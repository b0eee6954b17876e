"""`--job=replay`: runs the step again that stopped a stage."""

import dataclasses

from flowdistill.config.bind import ConfigError
from flowdistill.stages import failure
from flowdistill.stages.assembly import assemble
from flowdistill.stages.blueprints import Blueprints
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Options:
  """A replay has no options: it looks for the stage that failed."""


def run(blueprints: Blueprints, options: Options) -> str:
  """Names the step that failed and the first module that is not finite."""
  del options
  for name in blueprints.trained:
    if (blueprints.folder(name) / failure.FAILURE).is_dir():
      assembly = assemble(blueprints[name], blueprints.workdir)
      answer = f'{name}: {failure.replay(assembly)}'
      say(answer)
      return answer
  raise ConfigError(
    f'no step has failed in {blueprints.workdir}: nothing to replay'
  )
