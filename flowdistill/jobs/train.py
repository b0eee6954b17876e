"""`--job=train`: trains every stage that is not finished, and measures it."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Mapping

import jax

from flowdistill.build import objects as build
from flowdistill.config.bind import ConfigError, Spec, located, suggest
from flowdistill.config.files import ONE_STAGE, TRAIN
from flowdistill.evaluators.signature import Row
from flowdistill.jobs.pairs import make_stage
from flowdistill.planning.cost import ideal_seconds
from flowdistill.stages import failure
from flowdistill.stages.assembly import (
  Assembly,
  assemble,
  batches,
  evaluate_stage,
  first_state,
  jit_step,
  lay_out,
  sampled,
)
from flowdistill.stages.hosts import watch
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.files import write_json
from flowdistill.training.lengths import Length
from flowdistill.training.log import MetricLog, log_parameters, logged
from flowdistill.training.loop import Hooks, NotFinite, Stop, fit
from flowdistill.training.profile import Profile, Waiting
from flowdistill.training.progress import progress
from flowdistill.training.state import TrainState
from flowdistill.training.watchdog import AGAIN, Watchdog
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CHECKPOINTS
from flowdistill.workdir.record import (
  RESULTS,
  check_origins,
  check_unchanged,
  record,
  record_run,
)
from flowdistill.workdir.results import describe, flat, publish, say

PROFILE = 'profile'


@dataclasses.dataclass(frozen=True)
class Options:
  """What is looked at on the way; all else is in the config.

  Attributes:
    stage: the only one that is run; by default all are.
    profile: steps of every stage that are traced into W/<stage>/profile.
  """

  stage: str = ''
  profile: int = 0

  def __post_init__(self) -> None:
    if self.profile < 0:
      raise ConfigError(f'--profile={self.profile}: it must be at least 0')


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> list[Row]:
  """Runs the stages in order; a finished one is found again.

  Returns:
    the rows of the last that trains, which are printed and written to
    W/results.json.

  Raises:
    ConfigError: if the workdir was made with another config.
    Halted: if a loss or a gradient is not finite.
  """
  folders = {name: origins.stage_folder(workdir, name) for name in stages}
  chosen = [options.stage] if options.stage else list(stages)
  for name in chosen:
    check_unchanged(stages[name], folders[name])
    if stages[name]['job'] == TRAIN:
      check_devices(name, stages[name])
  if ONE_STAGE not in stages and jax.process_index() == 0:
    record_run(workdir, list(stages))
  rows: list[Row] = []
  with watch(stages, workdir) as dog:
    for number, name in enumerate(chosen):
      dog.at(number, 0)
      spec, folder = stages[name], folders[name]
      if spec['job'] != TRAIN:
        make_stage(name, spec, folder, workdir, dog)
        continue
      made = assemble(spec, folder, workdir)
      rows = train_stage(name, spec, made, dog, options)
  last = [name for name in chosen if stages[name]['job'] == TRAIN][-1:]
  if last and jax.process_index() == 0:
    publish(folders[last[0]], workdir, rows)
  return rows


def check_devices(name: str, spec: Spec) -> None:
  """Refuses a mesh or a batch that does not divide over this run's devices.

  Raises:
    ConfigError: with the numbers that would.
  """
  where = '' if name == ONE_STAGE else f'stages.{name}.'
  with located(f'{where}mesh'):
    layout = lay_out(build.bind_stage(spec))
  with located(f'{where}train.batch_size'):
    layout.check_batch_size(spec['train']['batch_size'])


def train_stage(
  name: str, spec: Spec, assembly: Assembly, dog: Watchdog, options: Options
) -> list[Row]:
  """Trains one stage to its end, measures it, and writes results.json."""
  folder = assembly.folder
  check_origins(folder, assembly.origins)
  steps = checkpoint.completed_steps(folder / CHECKPOINTS)
  done = bool(steps) and steps[-1] >= assembly.total
  if done and (folder / RESULTS).is_file():
    say(f'{name}: finished before, at step {steps[-1]} ({folder})')
    return json.loads((folder / RESULTS).read_text())
  ideal = None
  if jax.process_index() == 0:
    record(folder, spec, assembly.origins)
    ideal = ideal_seconds(spec, assembly)
  alone = jax.process_count() == 1
  with Stop(None if alone else assembly.layout.any) as stop:
    state = train_to_end(name, assembly, stop, dog, options.profile, ideal)
  if stop.agreed:
    say(f'{name}: stopped and saved at step {int(state.step)}; run it again')
    sys.exit(AGAIN)
  with dog.busy('measuring'):
    return measure(name, assembly, state)


def train_to_end(
  name: str,
  assembly: Assembly,
  stop: Stop,
  dog: Watchdog,
  traced: int = 0,
  ideal: float | None = None,
) -> TrainState:
  """Restores or starts the state, and trains it to the stage's last step."""
  folder, stage = assembly.folder, assembly.stage
  first = jax.process_index() == 0
  with contextlib.ExitStack() as stack:
    best = logged(folder, stage.checkpoint.best)
    saved = stack.enter_context(open_checkpoints(assembly, best))
    state = first_state(assembly, saved)
    start = int(state.step)
    log_parameters(f'{name}: student', state.roles['student'].params)
    if start:
      say(f'{name}: continues at step {start} of {assembly.total}')
    log = None
    if first:
      log = stack.enter_context(MetricLog(folder, resume_step=start))
    bar = stack.enter_context(
      progress(
        assembly.total,
        start,
        name,
        batch_size=stage.train.batch_size,
        stream=None if first else stack.enter_context(open(os.devnull, 'w')),
        ideal=ideal,
      )
    )
    feed = Waiting(batches(assembly, start))
    trace = stack.enter_context(Profile(folder / PROFILE, traced, start))

    def every(step: int, metrics: Mapping[str, jax.Array]) -> None:
      dog.at(dog.place[0], step)
      bar.update(step, loss=metrics['loss'], waited=feed.seconds)
      trace.at(step, metrics)

    hooks = make_hooks(assembly, saved, best, log, every, dog)
    key = jax.random.key(stage.seed)
    try:
      return fit(
        jit_step(assembly),
        state,
        assembly.frozen,
        feed,
        key,
        total=assembly.total,
        hooks=hooks,
        stop=stop,
      )
    except NotFinite as error:
      saved.wait()
      raise failure.report(assembly, error) from error


def make_hooks(
  assembly: Assembly,
  saved: Checkpoints,
  best: dict[int, float],
  log: MetricLog | None,
  every: Callable[[int, Mapping[str, jax.Array]], None],
  dog: Watchdog,
) -> Hooks:
  """What happens beside the steps: metrics, checkpoints, evaluators."""
  stage, batch_size = assembly.stage, assembly.stage.train.batch_size

  def write(step: int, scalars: Mapping[str, float]) -> None:
    if log is not None:
      log.write(step, step * batch_size, scalars)

  def evaluate(step: int, state: TrainState) -> None:
    due = [name for name, each in schedules.items() if not step % each]
    if not due:
      return
    if measured and not step % measured:
      saved.save(step, state)
    whole, figures = sampled(assembly, state), {}
    if log is not None:
      folder = assembly.folder / 'evaluations' / f'{step:08d}'
      with dog.busy('evaluating'):
        rows = list(evaluate_stage(assembly, whole, step, folder, due))
      figures = flat(rows)
      write(step, figures)
    if measured and not step % measured:
      best[step] = best_figure(assembly, figures)

  schedules = schedules_of(assembly)
  every_figure = steps_of(assembly, stage.evaluation.every)
  measured = every_figure if stage.checkpoint.best else 0

  return Hooks(
    every=every,
    log=write,
    save=saved.save,
    evaluate=evaluate,
    log_every=steps_of(assembly, stage.log.every),
    save_every=steps_of(assembly, stage.checkpoint.every),
    evaluate_every=math.gcd(*schedules.values()),
  )


def open_checkpoints(
  assembly: Assembly, best: Mapping[int, float]
) -> Checkpoints:
  """The checkpoints of a stage, and what stays of them."""
  kept = assembly.stage.checkpoint
  return Checkpoints(
    assembly.folder / CHECKPOINTS,
    keep=kept.keep,
    every=steps_of(assembly, kept.keep_every),
    best=best if kept.best else None,
  )


def schedules_of(assembly: Assembly) -> dict[str, int]:
  """Evaluator -> every how many steps it runs, of those that do."""
  given = assembly.stage.evaluation
  found = {
    name: steps_of(assembly, given.schedules.get(name, given.every))
    for name in assembly.stage.evaluators
  }
  return {name: every for name, every in found.items() if every}


def steps_of(assembly: Assembly, length: Length | None) -> int:
  """A length in steps, 0 for None."""
  batch_size, size = assembly.stage.train.batch_size, len(assembly.source)
  return 0 if length is None else length.to_steps(batch_size, size)


def best_figure(assembly: Assembly, figures: Mapping[str, float]) -> float:
  """By which the best checkpoint is chosen, the same on all hosts.

  Raises:
    ConfigError: if the evaluators measure no such figure.
  """
  name = assembly.stage.checkpoint.best
  figure = assembly.layout.broadcast(figures.get(name, math.nan))
  if math.isnan(figure):
    raise ConfigError(
      f'config.checkpoint.best = {name!r} was not measured, or is no number; '
      f'{suggest(name, figures)}'
    )
  return figure


def measure(name: str, assembly: Assembly, state: TrainState) -> list[Row]:
  """The rows of a stage's evaluators; one host measures."""
  rows: list[Row] = []
  whole, step = sampled(assembly, state), int(state.step)
  if jax.process_index() == 0:
    for row in evaluate_stage(assembly, whole, step, assembly.folder):
      rows.append(row)
      say(f'{name}: {describe(row)}')
    write_json(assembly.folder / RESULTS, rows)
  return rows
