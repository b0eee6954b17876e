"""`--job=train`: trains every unfinished stage, and evaluates it."""

import contextlib
import dataclasses

import jax

from flowdistill.config.bind import ConfigError
from flowdistill.config.files import ONE_STAGE
from flowdistill.evaluators.signature import Row
from flowdistill.figures.report import publish
from flowdistill.planning.cost import ideal_seconds
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.hosts import watch
from flowdistill.stages.kinds import KINDS
from flowdistill.stages.train import Extras, prepare
from flowdistill.workdir.lock import locked
from flowdistill.workdir.record import check_unchanged, write_run_record


@dataclasses.dataclass(frozen=True)
class Options:
  """Which stages are run, and whether they are profiled.

  Attributes:
    stage: the only stage to run; by default all.
    profile: number of steps of every stage to trace into W/<stage>/profile.
  """

  stage: str = ''
  profile: int = 0

  def __post_init__(self) -> None:
    if self.profile < 0:
      raise ConfigError(f'--profile={self.profile} must be at least 0')


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Runs the stages in order; a finished one is used as it is.

  Returns:
    the rows of the last stage that trains, also written to W/results.json.

  Raises:
    ConfigError: if the workdir was made with another config, or another job
      writes to it.
    Halted: if a loss or a gradient is not finite.
  """
  specs, workdir = blueprints.specs, blueprints.workdir
  chosen = [options.stage] if options.stage else list(specs)
  for name in chosen:
    check_unchanged(specs[name], blueprints.folder(name))
    if name in blueprints.trained:
      prepare(blueprints[name])
  rows: list[Row] = []
  extras = Extras(options.profile, ideal_seconds)
  with watch(specs, workdir) as dog, contextlib.ExitStack() as locks:
    for name in chosen:
      locks.enter_context(locked(blueprints.folder(name), 'train'))
      check_unchanged(specs[name], blueprints.folder(name))  # by another job
    if ONE_STAGE not in specs and jax.process_index() == 0:
      write_run_record(workdir, list(specs))
    for number, name in enumerate(chosen):
      dog.at(number, 0)
      result = KINDS[specs[name]['job']].make(blueprints, name, dog, extras)
      rows = result if name in blueprints.trained else rows
    last = [name for name in chosen if name in blueprints.trained][-1:]
    if last and jax.process_index() == 0:
      publish(blueprints.folder(last[0]), workdir, rows)
  return rows
