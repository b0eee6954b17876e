"""`--job=evaluate`: evaluates a trained stage, also with other samplers."""

import dataclasses
import functools
import pathlib

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.sampling_plan import combinations
from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Samplings
from flowdistill.evaluators.signature import Row
from flowdistill.figures.page import refresh
from flowdistill.figures.report import publish
from flowdistill.stages.assembly import (
  Assembly,
  assemble,
  restored,
  sampling_layout,
)
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.failure import Halted
from flowdistill.stages.measuring import blocks_in, measure_stage
from flowdistill.training.json_files import write_json
from flowdistill.training.state import TrainState
from flowdistill.workdir.folders import (
  CHECKPOINTS,
  EVALUATIONS,
  RESULTS,
  identity,
)
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
class Options(Samplings):
  """The checkpoints, and optionally other ways of sampling.

  Attributes:
    stage: its name; by default the last one.
    model: roles, such as student, to evaluate with every combination of these
      sampling options in place of the evaluators' sweeps.
    weights: of the roles that learn: ema, params, or the name of an EMA.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new checkpoint after which waiting ends.
  """

  stage: str = ''
  model: tuple[str, ...] = ()
  weights: tuple[str, ...] = ('ema',)
  steps: str = 'last'
  patience: float = PATIENCE

  def __post_init__(self) -> None:
    super().__post_init__()
    check_steps(self.steps)


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Prints rows, and adds those of a step to W/<stage>/evaluations/<step>/.

  Raises:
    ConfigError: if the stage is not trained, or has no evaluators.
    Halted: if its folder is removed or set aside meanwhile.
    FileNotFoundError: if no checkpoint appeared while waiting.
  """
  name = options.stage or list(blueprints.trained)[-1]
  blueprint = blueprints[name]
  folder = blueprint.folder / CHECKPOINTS
  if not blueprint.stage.evaluators:
    raise ConfigError(f'stage {name!r} has no evaluators: name another --stage')
  layout = sampling_layout(blueprint)
  here = functools.cache(lambda: identity(blueprint.folder))

  # Assembled when a checkpoint exists: earlier stages may not be finished yet.
  @functools.cache
  def assembly() -> Assembly:
    here()
    return assemble(blueprint, blueprints.workdir, layout)

  steps = chosen(
    folder, options.steps, blueprint.total, patience=options.patience
  )
  rows: list[Row] = []
  for _, state in read_each(folder, steps, lambda n: restore(assembly(), n)):
    check_same(blueprint.folder, here())
    for which in options.weights:
      stage = swept(blueprint, options, which)
      measured = dataclasses.replace(assembly(), blueprint=stage)
      rows += measure(measured, state, here(), which)
    refresh(blueprints.workdir)
  if is_several(options.steps) and jax.process_index() == 0:
    write_rows(blueprint.folder / EVALUATIONS, '', rows)
  return rows


def restore(assembly: Assembly, step: int) -> TrainState:
  """The state of a checkpoint."""
  return restored(assembly, assembly.blueprint.folder / CHECKPOINTS, step)


def check_same(folder: pathlib.Path, before: tuple[int, int]) -> None:
  """Raises Halted if another folder, or none, has the name of a stage's."""
  if identity(folder) != before:
    raise Halted(
      f'{folder} was removed, renamed or made anew while it was evaluated: the '
      'figures are of the network that was there, and are not written'
    )


def measure(
  assembly: Assembly,
  state: TrainState,
  here: tuple[int, int],
  which: str = 'ema',
) -> list[Row]:
  """The rows of one checkpoint, of the stage whose folder is `here`.

  Pictures of other weights than the default's lie in a folder of their name.
  """
  folder = assembly.blueprint.folder / EVALUATIONS / f'{int(state.step):08d}'
  place = folder if which == 'ema' else folder / which
  blocks = blocks_in(place)
  rows = measure_stage(
    assembly,
    state,
    place,
    each=lambda row: say(describe(row)),
    which=which,
    blocks=blocks,
  )
  if jax.process_index() == 0:
    check_same(assembly.blueprint.folder, here)
    write_rows(folder.parent, folder.name, rows)
    blocks.clear()
    publish(place, place, rows)
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


def swept(blueprint: Blueprint, options: Options, which: str) -> Blueprint:
  """The stage, with the sweeps of its evaluators replaced by the options.

  Roles that do not learn have no other weights, so they are there only once.
  """
  if not options.model:
    return blueprint
  first = which == options.weights[0]
  roles = [n for n in options.model if first or n in blueprint.learners]
  entries = [[x.sampler, x.nfe, x.how()] for x in combinations(options)]
  sweep = dict.fromkeys(roles, entries)
  evaluators = {
    name: {**evaluator, 'sweep': sweep}
    for name, evaluator in blueprint.spec['evaluators'].items()
    if 'sweep' in evaluator and roles
  }
  return blueprint.rebound({**blueprint.spec, 'evaluators': evaluators})
