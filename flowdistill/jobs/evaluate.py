"""`--job=evaluate`: measures a trained stage again, or other samplers on it."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

from flowdistill.build import objects as build
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.sampling import Sampling
from flowdistill.evaluators.signature import Row
from flowdistill.stages.assembly import (
  Assembly,
  abstract_state,
  assemble,
  evaluate_stage,
  sampled,
)
from flowdistill.training import checkpoint
from flowdistill.training.files import write_json
from flowdistill.training.state import Params
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CHECKPOINTS
from flowdistill.workdir.record import RESULTS
from flowdistill.workdir.results import describe, publish, say
from flowdistill.workdir.steps import (
  PATIENCE,
  check_steps,
  chosen,
  is_several,
  read_each,
)


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """What to measure, and where.

  Attributes:
    stage: its name; by default the last one.
    model: a role, such as student; with it, this sampling is measured instead
      of what the config's evaluators say.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new one after which to wait no more.
  """

  stage: str = ''
  model: str = ''
  steps: str = 'last'
  patience: float = PATIENCE

  def __post_init__(self) -> None:
    check_steps(self.steps)


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> list[Row]:
  """Prints rows, and writes those of a step to W/<stage>/evaluations/<step>/.

  Raises:
    ConfigError: if the stage is not trained, or has nothing to measure with.
    FileNotFoundError: if it waited, and there was no checkpoint.
  """
  name = options.stage or list(stages)[-1]
  folder = origins.stage_folder(workdir, name)
  spec = _swept(stages[name], options)
  if not spec['evaluators']:
    raise ConfigError(f'stage {name!r} has no evaluators: name another --stage')
  # Not before there is a checkpoint: earlier stages may not be finished.
  made = functools.cache(lambda: assemble(spec, folder, workdir))
  steps = chosen(
    folder / CHECKPOINTS,
    options.steps,
    length(spec),
    patience=options.patience,
  )
  rows: list[Row] = []
  for step, weights in read_each(
    folder / CHECKPOINTS, steps, lambda step: read(made(), step)
  ):
    rows += measure(made(), weights, step)
  if is_several(options.steps):
    write_json(folder / 'evaluations' / RESULTS, rows)
  return rows


def length(spec: Spec) -> int:
  """Of a stage, in steps."""
  stage = build.bind_stage(spec)
  return build.total_steps(stage, stage.dataset())


def measure(
  assembly: Assembly, weights: Mapping[str, Params], step: int
) -> list[Row]:
  """The rows of one checkpoint."""
  target = assembly.folder / 'evaluations' / f'{step:08d}'
  rows = []
  for row in evaluate_stage(assembly, weights, step, target):
    rows.append(row)
    say(describe(row))
  target.mkdir(parents=True, exist_ok=True)
  write_json(target / RESULTS, rows)
  publish(target, target, rows)
  return rows


def read(assembly: Assembly, step: int) -> dict[str, Params]:
  """Role -> weights of a checkpoint to draw with."""
  path, abstract = assembly.folder / CHECKPOINTS, abstract_state(assembly)
  return sampled(assembly, checkpoint.restore(path, abstract, step))


def _swept(spec: Spec, options: Options) -> Spec:
  """The evaluators that have a sweep, on the one entry asked for."""
  if not options.model:
    return spec
  sweep = {options.model: [[options.sampler, options.nfe, options.how()]]}
  chosen = {
    name: {**evaluator, 'sweep': sweep}
    for name, evaluator in spec['evaluators'].items()
    if 'sweep' in evaluator
  }
  return {**spec, 'evaluators': chosen}
