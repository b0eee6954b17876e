"""Trains a stage from its last checkpoint to its end, and evaluates it."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Mapping

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import located
from flowdistill.evaluators.signature import Row
from flowdistill.stages import failure
from flowdistill.stages.assembly import (
  Assembly,
  assemble,
  batches,
  first_state,
  jit_step,
  lay_out,
)
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.failure import Unmeasured
from flowdistill.stages.hooks import (
  Hooks,
  Show,
  check_present,
  known_figures,
  open_checkpoints,
  open_snapshots,
  pictures_of,
)
from flowdistill.stages.measuring import blocks_in, measure_stage
from flowdistill.training import checkpoint
from flowdistill.training.json_files import write_json
from flowdistill.training.log import MetricLog, log_parameters
from flowdistill.training.loop import Interrupted, NotFinite, Stop, fit
from flowdistill.training.profile import Profile, Waiting
from flowdistill.training.progress import progress
from flowdistill.training.state import TrainState
from flowdistill.training.watchdog import AGAIN, Watchdog
from flowdistill.workdir.folders import CHECKPOINTS, EVALUATIONS, RESULTS
from flowdistill.workdir.record import (
  check_data,
  check_references,
  check_unchanged,
  write_record,
)
from flowdistill.workdir.results import describe, read_rows, say

PROFILE = 'profile'


def prepare(blueprint: Blueprint, *, fresh: bool = False) -> None:
  """Checks folder, data and devices before the first stage of a run begins.

  The folder of a `fresh` stage is not looked at: it will be renamed.

  Raises:
    ConfigError: for a folder of another config or of other data, or a mesh or
      a batch that does not divide over the devices, with numbers that do.
  """
  if not fresh:
    check_unchanged(blueprint.spec, blueprint.folder)
    check_data(blueprint.folder, blueprint.data.actual)
  with located(blueprint.key('mesh')):
    layout = lay_out(blueprint)
  with located(blueprint.key('train.batch_size')):
    layout.check_batch_size(blueprint.stage.train.batch_size)


@dataclasses.dataclass(frozen=True)
class Extras:
  """Diagnostics of a training.

  Attributes:
    profiled: number of steps that are traced into W/<stage>/profile.
    ideal: seconds of a step at peak throughput; None if it is unknown.
    show: gets the rows of each evaluation, and the folder that they belong to.
  """

  profiled: int = 0
  ideal: Callable[[Blueprint], float | None] = lambda blueprint: None
  show: Show = lambda folder, rows: None


def train(
  blueprints: Blueprints, name: str, dog: Watchdog, extras: Extras
) -> list[Row]:
  """Trains one stage to its end, evaluates it, and writes results.json."""
  blueprint = blueprints[name]
  assembly, folder = assemble(blueprint, blueprints.workdir), blueprint.folder
  steps = checkpoint.completed_steps(folder / CHECKPOINTS)
  if steps:  # else it starts anew, with the weights that are there
    check_references(folder, assembly.references)
  last = steps[-1] if steps else 0
  rows = finished_rows(folder, last) if last >= blueprint.total else None
  if rows is not None:
    say(f'{name}: finished before, at step {last} ({folder})')
    return rows
  seconds = None
  if jax.process_index() == 0:
    data = blueprint.data.actual
    write_record(folder, blueprint.spec, assembly.references, data)
    seconds = extras.ideal(blueprint)
  alone = jax.process_count() == 1
  with contextlib.ExitStack() as files:
    try:
      with Stop(None if alone else assembly.layout.any) as stop:
        state, log = train_to_end(assembly, stop, dog, files, extras, seconds)
    except OSError:
      check_present(folder)
      raise
    if stop.agreed and not int(state.step):
      raise Interrupted(stop.signal or signal.SIGTERM)
    if stop.agreed:
      say(f'{name}: stopped and saved at step {int(state.step)}; run it again')
      sys.exit(AGAIN)
    with dog.busy('measuring'):
      try:
        rows = measure(assembly, state)
      except Unmeasured as error:
        kept = folder / EVALUATIONS / f'{int(state.step):08d}'
        extras.show(kept, error.rows)
        raise
      extras.show(folder, rows)
      if log is not None:
        log.evaluation(int(state.step), rows, pictures_of(folder))
  return rows


def finished_rows(folder: pathlib.Path, step: int) -> list[Row] | None:
  """The results of the last step of a stage; None if there are none of it.

  Raises:
    CheckpointError: if nothing but its name says that the step was made.
  """
  path = folder / RESULTS
  rows = read_rows(path) if path.is_file() else None
  if rows == []:  # there are no evaluators
    checkpoint.check(folder / CHECKPOINTS / str(step))
  return (
    None if any(row.get('step', step) != step for row in rows or ()) else rows
  )


def train_to_end(
  assembly: Assembly,
  stop: Stop,
  dog: Watchdog,
  files: contextlib.ExitStack,
  extras: Extras,
  ideal: float | None = None,
) -> tuple[TrainState, MetricLog | None]:
  """Restores or starts the state, and trains it to the stage's last step.

  The log, which only the first host has, stays open until `files` are closed.
  """
  blueprint = assembly.blueprint
  folder, stage, name = blueprint.folder, blueprint.stage, blueprint.name
  first = jax.process_index() == 0
  with contextlib.ExitStack() as stack:
    figures = known_figures(blueprint)
    saved = stack.enter_context(open_checkpoints(blueprint, figures))
    with stop.at_once():
      state = first_state(assembly, saved)
    start = int(state.step)
    snapshots = open_snapshots(blueprint, start, assembly.layout)
    if snapshots is not None:
      stack.enter_context(snapshots)
    for role, own in state.roles.items():
      log_parameters(f'{name}: {role}', own.params)
    if start:
      say(f'{name}: continues at step {start} of {blueprint.total}')
    log = None
    if first:
      log = files.enter_context(
        MetricLog(folder, resume_step=start, trackers=stage.log.trackers)
      )
    bar = stack.enter_context(
      progress(
        blueprint.total,
        start,
        name,
        batch_size=stage.train.batch_size,
        stream=None if first else stack.enter_context(open(os.devnull, 'w')),
        ideal=ideal,
      )
    )
    feed = Waiting(batches(assembly, start))
    trace = stack.enter_context(
      Profile(folder / PROFILE, extras.profiled, start)
    )

    def each(step: int, metrics: Mapping[str, jax.Array]) -> None:
      dog.at(dog.place[0], step)
      bar.update(step, loss=metrics['loss'], waited=feed.seconds)
      trace.at(step, metrics)

    hooks = Hooks(
      assembly, saved, snapshots, figures, log, dog, stop, extras.show
    )
    if start:
      hooks.catch_up(start, state)
    try:
      state = fit(
        jit_step(assembly),
        state,
        assembly.frozen,
        feed,
        jax.random.key(stage.seed),
        total=blueprint.total,
        log=(blueprint.to_steps(stage.log.every), hooks.write),
        actions=hooks.actions,
        each=each,
        save=hooks.end,
        stop=stop,
      )
    except NotFinite as error:
      saved.wait()
      raise failure.report(assembly, error) from error
    return state, log


def measure(assembly: Assembly, state: TrainState) -> list[Row]:
  """The rows of all evaluators, which are written to results.json."""
  name, folder = assembly.blueprint.name, assembly.blueprint.folder
  blocks = blocks_in(folder)
  rows = measure_stage(
    assembly,
    state,
    folder,
    each=lambda row: say(f'{name}: {describe(row)}'),
    blocks=blocks,
  )
  if jax.process_index() == 0:
    write_json(folder / RESULTS, rows)
    blocks.clear()
  return rows
