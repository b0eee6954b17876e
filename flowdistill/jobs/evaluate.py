"""`--job=evaluate`: evaluates a trained stage, also with other samplers."""

import dataclasses
import functools
import pathlib

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Sampling
from flowdistill.evaluators.signature import Row
from flowdistill.figures.page import refresh
from flowdistill.figures.report import publish
from flowdistill.stages.assembly import (
  Assembly,
  abstract_state,
  assemble,
  sampling_layout,
)
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.hooks import measure_stage
from flowdistill.training import checkpoint
from flowdistill.training.json_files import write_json
from flowdistill.training.state import TrainState
from flowdistill.workdir.folders import CHECKPOINTS, EVALUATIONS, RESULTS
from flowdistill.workdir.lock import locked
from flowdistill.workdir.results import describe, merged, read_rows, say
from flowdistill.workdir.steps import (
  PATIENCE,
  check_steps,
  chosen,
  is_several,
  read_each,
)

WAIT = 120.0  # seconds, for another evaluation to have written its rows


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """The checkpoints, and optionally another way of sampling.

  Attributes:
    stage: its name; by default the last one.
    model: a role, such as student, to evaluate with these sampling options in
      place of the evaluators' sweeps.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new checkpoint after which waiting ends.
  """

  stage: str = ''
  model: str = ''
  steps: str = 'last'
  patience: float = PATIENCE

  def __post_init__(self) -> None:
    check_steps(self.steps)


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Prints rows, and adds those of a step to W/<stage>/evaluations/<step>/.

  Raises:
    ConfigError: if the stage is not trained, or has no evaluators.
    FileNotFoundError: if no checkpoint appeared while waiting.
  """
  name = options.stage or list(blueprints.trained)[-1]
  blueprint = swept(blueprints, name, options)
  folder = blueprint.folder / CHECKPOINTS
  if not blueprint.stage.evaluators:
    raise ConfigError(f'stage {name!r} has no evaluators: name another --stage')
  layout = sampling_layout(blueprint)

  # Assembled when a checkpoint exists: earlier stages may not be finished yet.
  @functools.cache
  def assembly() -> Assembly:
    return assemble(blueprint, blueprints.workdir, layout)

  steps = chosen(
    folder, options.steps, blueprint.total, patience=options.patience
  )
  rows: list[Row] = []
  for _, state in read_each(folder, steps, lambda n: restore(assembly(), n)):
    rows += measure(assembly(), state)
    refresh(blueprints.workdir)
  if is_several(options.steps) and jax.process_index() == 0:
    write_rows(blueprint.folder / EVALUATIONS, '', rows)
  return rows


def restore(assembly: Assembly, step: int) -> TrainState:
  """The state of a checkpoint."""
  folder = assembly.blueprint.folder / CHECKPOINTS
  return checkpoint.restore(folder, abstract_state(assembly), step)


def measure(assembly: Assembly, state: TrainState) -> list[Row]:
  """The rows of one checkpoint."""
  folder = assembly.blueprint.folder / EVALUATIONS / f'{int(state.step):08d}'
  rows = measure_stage(
    assembly, state, folder, each=lambda row: say(describe(row))
  )
  if jax.process_index() == 0:
    write_rows(folder.parent, folder.name, rows)
    publish(folder, folder, rows)
  return rows


def write_rows(evaluations: pathlib.Path, name: str, rows: list[Row]) -> None:
  """Adds rows to those of other evaluations, also of one at this moment.

  Args:
    evaluations: the folder of all evaluations of a stage.
    name: of the folder of a step; '' for those of several steps.
    rows: that are new.
  """
  path = evaluations / name / RESULTS
  with locked(evaluations, 'evaluate', wait=WAIT):
    path.parent.mkdir(parents=True, exist_ok=True)
    before = read_rows(path) if path.is_file() else []
    write_json(path, merged(before, rows))


def swept(blueprints: Blueprints, name: str, options: Options) -> Blueprint:
  """The stage, with the sweeps of its evaluators replaced by the options."""
  if not options.model:
    return blueprints[name]
  spec = blueprints.specs[name]
  sweep = {options.model: [[options.sampler, options.nfe, options.how()]]}
  evaluators = {
    name: {**evaluator, 'sweep': sweep}
    for name, evaluator in spec['evaluators'].items()
    if 'sweep' in evaluator
  }
  return blueprints[name].rebound({**spec, 'evaluators': evaluators})
