"""Actions between the training steps of a stage: log, save, evaluate.

A state is saved before it is evaluated; the figures of the evaluation then
decide which checkpoints are kept.
"""

import math
import pathlib
import shutil
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.ema_snapshots import profiles_of
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.evaluators.signature import SHEETS, Row
from flowdistill.stages.assembly import Assembly
from flowdistill.stages.failure import Halted, Unmeasured
from flowdistill.stages.measuring import blocks_in, measure_stage
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.ema_snapshots import snapshot
from flowdistill.training.log import EVALUATOR, MetricLog, logged, logged_rows
from flowdistill.training.loop import Action, Interrupted, Stop
from flowdistill.training.sharding import Layout
from flowdistill.training.state import TrainState
from flowdistill.training.watchdog import Watchdog
from flowdistill.workdir.folders import (
  CHECKPOINTS,
  CONFIG,
  EMA_SNAPSHOTS,
  EVALUATIONS,
  SAMPLES,
)
from flowdistill.workdir.results import flat

Figures = dict[int, float]
"""Step -> the figure by which the best checkpoint is selected."""
Show = Callable[[pathlib.Path, list[Row]], None]


class Hooks:
  """The actions of a stage.

  Args:
    assembly: of the stage.
    saved: its checkpoints, which keep the best of `figures`.
    snapshots: of its EMAs; None keeps none.
    figures: of earlier runs; new ones are added.
    log: of the first host, None on the others.
    dog: the watchdog of the hosts.
    stop: an evaluation is given up when it is asked to stop, on a single host.
    show: gets the folder of an evaluation and its rows, on every host.
  """

  def __init__(
    self,
    assembly: Assembly,
    saved: Checkpoints,
    snapshots: Checkpoints | None,
    figures: Figures,
    log: MetricLog | None,
    dog: Watchdog,
    stop: Stop,
    show: Show,
  ):
    self.assembly, self.blueprint = assembly, assembly.blueprint
    self.saved, self.figures, self.log = saved, figures, log
    self.snapshots = snapshots
    self.dog, self.stop, self.show = dog, stop, show
    self.schedules = schedules_of(self.blueprint)
    self._measured: dict[str, dict[str, float]] = {}

  @property
  def actions(self) -> list[Action]:
    """(every, action), in the order of execution."""
    stage, to_steps = self.blueprint.stage, self.blueprint.to_steps
    return [
      (to_steps(stage.ema_snapshots.every), self.snapshot),
      (to_steps(stage.checkpoint.every), self.save),
      *((each, self.evaluator(n)) for n, each in self.schedules.items()),
    ]

  def save(self, step: int, state: TrainState) -> None:
    """Saves the state, unless it is saved already.

    The snapshots up to its step are complete before: a run that continues there
    does not make them again. Orbax saves one tree at a time, too.
    """
    check_present(self.blueprint.folder)
    if self.snapshots is not None:
      self.snapshots.wait()
    self.saved.save(step, state)

  def snapshot(self, step: int, state: TrainState) -> None:
    """Keeps the EMAs of kind `power`, unless those of the step are kept."""
    if self.snapshots is not None:
      check_present(self.blueprint.folder)
      self.saved.wait()
      dtype = self.blueprint.stage.ema_snapshots.dtype
      tree = snapshot(state, profiles_of(self.blueprint), dtype)
      self.snapshots.save(step, tree)

  def end(self, step: int, state: TrainState) -> None:
    """Saves the last state, or that at which a run is stopped."""
    every = self.blueprint.to_steps(self.blueprint.stage.ema_snapshots.every)
    if every and step % every == 0:
      self.snapshot(step, state)
    self.save(step, state)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Logs scalars, except those of roles that were not updated."""
    fresh = {k: v for k, v in scalars.items() if not self.is_stale(k, step)}
    self._write(step, fresh)

  def is_stale(self, name: str, step: int) -> bool:
    """Whether a metric is of a role that was not updated at a step."""
    return any(
      role.learns.prefix
      and name.startswith(role.learns.prefix)
      and not role.is_due(step)
      for role in self.blueprint.learners.values()
      if role.learns
    )

  def evaluator(self, name: str) -> Callable[[int, TrainState], None]:
    """The action that runs an evaluator."""
    return lambda step, state: self._evaluate(name, step, state)

  def catch_up(self, step: int, state: TrainState) -> None:
    """Makes the evaluations that are due at a restored step, and not made.

    A run may have been killed after the checkpoint of a step was complete, and
    before its evaluations were.
    """
    rows: list[dict[str, Any]] = []
    if self.log is not None:  # only the first host knows
      rows = [
        r for r in logged_rows(self.blueprint.folder) if r['step'] == step
      ]
    made = {row.get(EVALUATOR) for row in rows}
    unnamed = [row for row in rows if EVALUATOR not in row]
    for name, every in self.schedules.items():
      missing = self.assembly.layout.broadcast(name not in made)
      if step < self.blueprint.total and step % every == 0 and missing:
        self._evaluate(name, step, state, set().union(*unnamed))

  def _evaluate(
    self,
    name: str,
    step: int,
    state: TrainState,
    known: Collection[str] = (),
  ) -> None:
    """Runs an evaluator, and logs its figures unless all of them are known."""
    folder = self.blueprint.folder / EVALUATIONS / f'{step:08d}'
    blocks = blocks_in(folder)
    try:
      with self.dog.busy('evaluating'), self.stop.at_once():
        rows = measure_stage(
          self.assembly, state, folder, [name], blocks=blocks
        )
    except Interrupted:
      return  # the loop saves, and the evaluation is made when it continues
    except Unmeasured as error:
      self.show(folder, error.rows)
      raise
    figures = flat(rows)
    if not figures or not figures.keys() <= set(known):
      self._write(step, figures, name)
    self._measured[name] = figures
    with self.dog.busy('writing the page'):
      self.show(folder, rows)
      if self.log is not None:
        self.log.evaluation(step, rows, pictures_of(folder))
        blocks.clear()
    self._note_best(step, state, figures)

  def _write(
    self, step: int, scalars: Mapping[str, float], evaluator: str = ''
  ) -> None:
    if self.log is not None and (scalars or evaluator):
      check_present(self.blueprint.folder)
      batch_size = self.blueprint.stage.train.batch_size
      self.log.write(step, step * batch_size, scalars, evaluator)

  def _note_best(
    self, step: int, state: TrainState, figures: Mapping[str, float]
  ) -> None:
    """Records the figure of `checkpoint.best`, and saves its state.

    Raises:
      ConfigError: if no evaluator measures it.
    """
    name = self.blueprint.stage.checkpoint.best
    if not name:
      return
    figure = self.assembly.layout.broadcast(figures.get(name, math.nan))
    known = {k for each in self._measured.values() for k in each}
    gone = f'{name.rpartition("/")[0]}/diverged' in figures
    if self.assembly.layout.broadcast(float(gone)):
      return  # its samples are not finite at this step
    if not math.isnan(figure):
      self.figures[step] = figure
      self.save(step, state)
    elif name in figures or self._nobody_measures(name):
      self.save(step, state)
      key = self.blueprint.key('checkpoint.best')
      raise ConfigError(
        f'config.{key} = {name!r} was not measured, or is not a number; '
        f'{suggest(name, sorted(known))}'
      )

  def _nobody_measures(self, name: str) -> bool:
    """Whether every evaluator has run, and none has measured the figure."""
    ran = self._measured.keys() == self.schedules.keys()
    return ran and not any(name in each for each in self._measured.values())


def pictures_of(folder: pathlib.Path) -> list[pathlib.Path]:
  """The contact sheets and pictures of an evaluation."""
  return sorted(
    [*folder.glob(f'{SHEETS}/*.png'), *folder.glob(f'{SAMPLES}/*.png')]
  )


def check_present(folder: pathlib.Path) -> None:
  """Raises Halted if the folder of a stage at work is gone.

  A save that was under way may have made it anew, so its record is looked for.
  """
  if not (folder / CONFIG).is_file():
    raise Halted(
      f'{folder} was removed or renamed while this run was writing to it: '
      'nothing more can be saved there'
    )


def open_checkpoints(blueprint: Blueprint, figures: Figures) -> Checkpoints:
  """The checkpoints of a stage, with its rules of which ones are kept."""
  section = blueprint.stage.checkpoint
  return Checkpoints(
    blueprint.folder / CHECKPOINTS,
    keep=section.keep,
    every=blueprint.to_steps(section.keep_every),
    best=figures if section.best else None,
  )


def open_snapshots(
  blueprint: Blueprint, start: int, layout: Layout
) -> Checkpoints | None:
  """The snapshots of a stage that continues at a step; None if it keeps none.

  Those of later steps are removed, for the training may be another one now:
  longer, or from weights that are newer. Without a checkpoint of its own, such
  as after `resume`, that is all of them.
  """
  if blueprint.stage.ema_snapshots.every is None:
    return None
  folder = blueprint.folder / EMA_SNAPSHOTS
  if jax.process_index() == 0:
    own = checkpoint.completed_steps(blueprint.folder / CHECKPOINTS)
    for step in checkpoint.completed_steps(folder):
      if step > start or not own:
        shutil.rmtree(folder / str(step))
  layout.broadcast(start)  # the other hosts wait for the first
  return Checkpoints(folder, keep=1, every=1)


def known_figures(blueprint: Blueprint) -> Figures:
  """The figures that earlier runs have logged."""
  name = blueprint.stage.checkpoint.best
  return logged(blueprint.folder, name) if name else {}


def schedules_of(blueprint: Blueprint) -> dict[str, int]:
  """Evaluator -> its interval in steps, of those that run while training."""
  section = blueprint.stage.evaluation
  every = {
    name: blueprint.to_steps(section.schedules.get(name, section.every))
    for name in blueprint.stage.evaluators
  }
  return {name: steps for name, steps in every.items() if steps}
