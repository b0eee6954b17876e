"""What happens beside the steps of a stage: log, save, evaluate.

Saving does not depend on evaluating: a state is saved first, and what is
measured of it afterwards decides which checkpoints stay.
"""

import contextlib
import math
import pathlib
import tempfile
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.stages.assembly import Assembly, evaluate_stage, sampled
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.log import MetricLog, logged
from flowdistill.training.loop import Action
from flowdistill.training.state import TrainState
from flowdistill.training.watchdog import Watchdog
from flowdistill.workdir.folders import CHECKPOINTS
from flowdistill.workdir.results import flat

Figures = dict[int, float]
"""Step -> the figure by which the best checkpoint is chosen."""


class Hooks:
  """The actions of a stage.

  Args:
    assembly: of the stage.
    saved: its checkpoints, which keep the best of `figures`.
    figures: see there; they are added to.
    log: of the first host, None on the others.
    dog: that the other hosts watch.
  """

  def __init__(
    self,
    assembly: Assembly,
    saved: Checkpoints,
    figures: Figures,
    log: MetricLog | None,
    dog: Watchdog,
  ):
    self.assembly, self.blueprint = assembly, assembly.blueprint
    self.saved, self.figures, self.log, self.dog = saved, figures, log, dog
    self.schedules = schedules_of(self.blueprint)
    self._measured: dict[str, dict[str, float]] = {}

  @property
  def actions(self) -> list[Action]:
    """(every, action) in the order in which they are done."""
    every = self.blueprint.to_steps(self.blueprint.stage.checkpoint.every)
    return [
      (every, self.save),
      *((each, self.evaluator(n)) for n, each in self.schedules.items()),
    ]

  def save(self, step: int, state: TrainState) -> None:
    """Saves the state, if it is not saved yet."""
    self.saved.save(step, state)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Logs scalars, but for those of roles that made no update."""
    fresh = {k: v for k, v in scalars.items() if not self.is_stale(k, step)}
    self._write(step, fresh)

  def is_stale(self, name: str, step: int) -> bool:
    """Whether a metric is one of a role that was not updated at a step."""
    return any(
      role.learns.prefix
      and name.startswith(role.learns.prefix)
      and step % role.every
      for role in self.blueprint.learners.values()
      if role.learns
    )

  def evaluator(self, name: str) -> Callable[[int, TrainState], None]:
    """The action that runs an evaluator."""

    def evaluate(step: int, state: TrainState) -> None:
      folder = self.blueprint.folder / 'evaluations' / f'{step:08d}'
      with self.dog.busy('evaluating'):
        rows = measure_stage(self.assembly, state, folder, [name])
      figures = flat(rows)
      self._write(step, figures)
      self._measured[name] = figures
      self._note_best(step, state, figures)

    return evaluate

  def _write(self, step: int, scalars: Mapping[str, float]) -> None:
    if self.log is not None and scalars:
      batch_size = self.blueprint.stage.train.batch_size
      self.log.write(step, step * batch_size, scalars)

  def _note_best(
    self, step: int, state: TrainState, figures: Mapping[str, float]
  ) -> None:
    """Notes the figure of the best checkpoint, and saves what it is of."""
    name = self.blueprint.stage.checkpoint.best
    if not name:
      return
    figure = self.assembly.layout.broadcast(figures.get(name, math.nan))
    known = {k for each in self._measured.values() for k in each}
    if not math.isnan(figure):
      self.figures[step] = figure
      self.save(step, state)
    elif name in figures or self._nobody_measures(name):
      self.save(step, state)
      key = self.blueprint.key('checkpoint.best')
      raise ConfigError(
        f'config.{key} = {name!r} was not measured, or is no number; '
        f'{suggest(name, sorted(known))}'
      )

  def _nobody_measures(self, name: str) -> bool:
    """Whether every evaluator has run, and none has such a figure."""
    ran = self._measured.keys() == self.schedules.keys()
    return ran and not any(name in each for each in self._measured.values())


def open_checkpoints(blueprint: Blueprint, figures: Figures) -> Checkpoints:
  """The checkpoints of a stage, and what stays of them."""
  kept = blueprint.stage.checkpoint
  return Checkpoints(
    blueprint.folder / CHECKPOINTS,
    keep=kept.keep,
    every=blueprint.to_steps(kept.keep_every),
    best=figures if kept.best else None,
  )


def known_figures(blueprint: Blueprint) -> Figures:
  """What earlier runs have measured."""
  name = blueprint.stage.checkpoint.best
  return logged(blueprint.folder, name) if name else {}


def schedules_of(blueprint: Blueprint) -> dict[str, int]:
  """Evaluator -> every how many steps it runs, of those that do."""
  given = blueprint.stage.evaluation
  every = {
    name: blueprint.to_steps(given.schedules.get(name, given.every))
    for name in blueprint.stage.evaluators
  }
  return {name: steps for name, steps in every.items() if steps}


def measure_stage(
  assembly: Assembly,
  state: TrainState,
  folder: pathlib.Path,
  names: list[str] | None = None,
  each: Callable[[Any], Any] = lambda row: None,
) -> list[Any]:
  """The rows of evaluators; all hosts measure, the first keeps the pictures."""
  params, step = sampled(assembly, state), int(state.step)
  with picture_folder(folder) as place:
    rows = []
    for row in evaluate_stage(assembly, params, step, place, names):
      rows.append(row)
      each(row)
  return rows


@contextlib.contextmanager
def picture_folder(folder: pathlib.Path) -> Generator[pathlib.Path]:
  """The folder itself on the first host, a temporary one on the others."""
  if jax.process_index() == 0:
    yield folder
    return
  with tempfile.TemporaryDirectory() as place:
    yield pathlib.Path(place)
