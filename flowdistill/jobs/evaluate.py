"""`--job=evaluate`: measures a trained stage again, or other samplers on it."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from flowdistill import origins
from flowdistill.bind import ConfigError, Spec
from flowdistill.evaluators.signature import Row
from flowdistill.jobs.assemble import (
  Assembly,
  abstract_state,
  assemble,
  evaluate_stage,
  sampled,
)
from flowdistill.jobs.results import describe, publish, say
from flowdistill.jobs.sampling import Sampling
from flowdistill.origins import CHECKPOINTS
from flowdistill.training import checkpoint
from flowdistill.training.record import write_json


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """What to measure, and where.

  Attributes:
    stage: its name; by default the last one.
    model: a role, such as student; with it, this sampling is measured instead
      of what the config's evaluators say.
    step: of the checkpoint; by default the last.
  """

  stage: str = ''
  model: str = ''
  step: int = -1


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> list[Row]:
  """Prints a table and writes it to W/<stage>/evaluations/.

  Raises:
    ConfigError: if the stage is not trained, or has nothing to measure with.
  """
  name = options.stage or list(stages)[-1]
  folder = origins.stage_folder(workdir, name)
  assembly = assemble(_swept(stages[name], options), folder, workdir)
  if not assembly.stage.evaluators:
    raise ConfigError(f'stage {name!r} has no evaluators: name another --stage')
  state = restore(assembly, options.step)
  target = folder / 'evaluations' / f'{int(state.step):08d}'
  rows = []
  whole = sampled(assembly, state)
  for row in evaluate_stage(assembly, whole, int(state.step), target):
    rows.append(row)
    say(describe(row))
  target.mkdir(parents=True, exist_ok=True)
  write_json(target / 'results.json', rows)
  publish(target, target, rows)
  return rows


def restore(assembly: Assembly, step: int = -1) -> Any:
  """The state of a checkpoint, the last one by default.

  Raises:
    ConfigError: if there is none.
  """
  abstract = abstract_state(assembly)
  path = assembly.folder / CHECKPOINTS
  try:
    return checkpoint.restore(path, abstract, None if step < 0 else step)
  except FileNotFoundError as error:
    raise ConfigError(f'{assembly.folder} is not trained: {error}') from error


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
