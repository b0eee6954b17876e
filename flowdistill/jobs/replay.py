"""`--job=replay`: runs the step again that stopped a stage."""

import dataclasses
import pathlib
from collections.abc import Mapping

from flowdistill.config.bind import ConfigError, Spec
from flowdistill.stages import failure
from flowdistill.stages.assembly import assemble
from flowdistill.workdir import origins
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Options:
  """A replay has no options: it looks for the stage that failed."""


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> str:
  """Names the step that failed and the first module that is not finite.

  Raises:
    ConfigError: if no stage of this run has failed.
  """
  del options
  for name, spec in stages.items():
    folder = origins.stage_folder(workdir, name)
    if (folder / failure.FAILURE).is_dir():
      answer = f'{name}: {failure.replay(assemble(spec, folder, workdir))}'
      say(answer)
      return answer
  raise ConfigError(f'no step has failed in {workdir}: nothing to replay')
