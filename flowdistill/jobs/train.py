"""`--job=train`: trains every unfinished stage, and evaluates it."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Collection

import jax

from flowdistill.config.bind import ConfigError
from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.evaluators.signature import Row
from flowdistill.figures.page import forgiving, refresh
from flowdistill.figures.report import publish
from flowdistill.jobs.evaluate import write_rows
from flowdistill.planning.cost import ideal_seconds
from flowdistill.stages import order
from flowdistill.stages.assembly import lay_out
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.hosts import watch
from flowdistill.stages.kinds import KINDS
from flowdistill.stages.train import Extras, prepare
from flowdistill.training.checkpoint import completed_steps
from flowdistill.training.watchdog import AGAIN
from flowdistill.workdir.folders import CHECKPOINTS, EVALUATIONS, RESULTS
from flowdistill.workdir.lock import locked
from flowdistill.workdir.record import check_unchanged, write_run_record
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Options:
  """Which stages are run, and whether they are profiled.

  Attributes:
    stage: the only stage to run; by default all.
    profile: number of steps of every stage to trace into W/<stage>/profile.
    set_aside: whether later stages that began with an earlier one, which is now
      trained further, are renamed to W/<stage>.old-1 and trained again.
  """

  stage: str = ''
  profile: int = 0
  set_aside: bool = False

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
  try:
    return run_stages(blueprints, options)
  except KeyboardInterrupt as error:
    saved = [
      f'{name} at step {steps[-1]}'
      for name in blueprints.trained
      if (steps := completed_steps(blueprints.folder(name) / CHECKPOINTS))
    ]
    if not saved:
      raise
    say(
      f'stopped by {str(error) or "SIGINT"}; {saved[-1]} is saved; run it again'
    )
    sys.exit(AGAIN)


def run_stages(blueprints: Blueprints, options: Options) -> list[Row]:
  """Checks all stages before any changes, and runs them."""
  specs, workdir = blueprints.specs, blueprints.workdir
  chosen = [options.stage] if options.stage else list(specs)
  late = order.outdated(blueprints, chosen)
  for name in chosen:
    fresh = name in late and options.set_aside
    if not fresh:
      check_unchanged(specs[name], blueprints.folder(name))
    if name in blueprints.trained:
      prepare(blueprints[name], fresh=fresh)
  if late and not options.set_aside:
    order.refuse(late)
  rows: list[Row] = []
  show = functools.partial(show_rows, workdir)
  extras = Extras(options.profile, ideal_seconds, show)
  with watch(specs, workdir) as dog, contextlib.ExitStack() as locks:
    for name in (n for n in chosen if n not in late):
      locks.enter_context(locked(blueprints.folder(name), 'train'))
    if late:
      set_aside(blueprints, late, chosen)
    for name in (n for n in chosen if n in late):
      locks.enter_context(locked(blueprints.folder(name), 'train'))
    for name in chosen:
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


def show_rows(
  workdir: pathlib.Path, folder: pathlib.Path, rows: list[Row]
) -> None:
  """Keeps the rows of an evaluation while training, and draws the page."""
  if folder.parent.name == EVALUATIONS and rows and jax.process_index() == 0:
    with forgiving(folder / RESULTS):
      write_rows(folder.parent, folder.name, rows)
  refresh(workdir)


def set_aside(
  blueprints: Blueprints, late: Collection[str], chosen: Collection[str]
) -> None:
  """Renames the folders of stages, while no host looks at them.

  It is called with the locks of the chosen stages that stay. Another process
  may have set the others aside, and trained them again, before they were taken.
  """
  layout = lay_out(blueprints[next(iter(blueprints.trained))])
  layout.broadcast(0.0)  # all hosts know which
  if jax.process_index() == 0:
    for name in order.outdated(blueprints, chosen):
      if name in late:
        with locked(blueprints.folder(name), 'train'):
          place = order.set_aside(blueprints.folder(name))
        say(f'{name}: begins again; its folder is now {place}')
  layout.broadcast(0.0)
