"""`--job=evaluate`: evaluates a trained stage, also with other samplers."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import (
  Samplings,
  Spec,
  plain_weights,
  weights_of_ema,
)
from flowdistill.config.sections import STUDENT
from flowdistill.evaluators.signature import Row
from flowdistill.figures.best import HELD_OUT, tell, write_best
from flowdistill.figures.page import refresh
from flowdistill.figures.report import publish
from flowdistill.metrics.spread import SETS
from flowdistill.stages.assembly import (
  Assembly,
  assemble,
  restored,
  sampling_layout,
)
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_evaluators import check_evaluators
from flowdistill.stages.failure import Halted, Unmeasured
from flowdistill.stages.job_options import tried
from flowdistill.stages.measuring import blocks_in, measure_stage
from flowdistill.stages.quality_config import (
  FRECHET,
  named_specs,
  with_quality,
)
from flowdistill.training.json_files import write_json
from flowdistill.training.state import TrainState
from flowdistill.workdir.ema_snapshots import usable, with_some
from flowdistill.workdir.folders import (
  CHECKPOINTS,
  EVALUATIONS,
  RESULTS,
  identity,
)
from flowdistill.workdir.lock import locked
from flowdistill.workdir.presets import Preset
from flowdistill.workdir.results import describe, merged, read_rows, say
from flowdistill.workdir.steps import (
  PATIENCE,
  check_steps,
  chosen,
  is_several,
  read_each,
)

NEEDED = {
  ('samples', 'sets', 'real'): ('metrics', 'features', 'of', 'tune'),
  ('against', 'out'): ('of',),
}
"""Options -> those of which one must be given for them to have an effect."""
WAIT = 120.0  # seconds, for another evaluation to have written its rows


@dataclasses.dataclass(frozen=True)
class Options(Samplings):
  """The checkpoints, and optionally other ways of sampling, or of measuring.

  Attributes:
    stage: its name; by default the last one.
    model: roles, such as student, to evaluate with every combination of these
      sampling options in place of the evaluators' sweeps.
    weights: of the roles that learn: ema, params, the name of an EMA, or
      power:0.1 for the power EMA of that relative width.
    ema: relative widths of power EMAs: 0.05,0.1 is short for
      --weights=power:0.05,power:0.1.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new checkpoint after which waiting ends.
    features: feature networks in place of those of the config.
    metrics: in METRICS: the evaluator `quality` with these is run in place of
      the evaluators of the config that draw no pictures.
    samples: of a set, with metrics or features.
    sets: disjoint sets of samples, with metrics or features; 3 by default, of
      images and with `tune` 1.
    real: real examples at most, with metrics or features.
    of: images to measure in place of a model's samples: a folder, a .zip, .tar,
      .npz or .npy. There is no config then, and no workdir.
    against: with `of`, images or statistics that they are compared with.
    out: with `of`, the folder that gets results.json, or an .npz that gets the
      statistics of the images' features.
    tune: knobs of sampling, of nfe, gamma and guidance: the best of their
      values for each NFE, by the Fréchet distance and a seed of its own, is
      written to W/<stage>/presets.json, for `--job=generate --preset=NFE`. The
      values are those of the options nfe, options and guidance if they are
      given.
  """

  stage: str = ''
  model: tuple[str, ...] = ()
  weights: tuple[str, ...] = ('ema',)
  ema: tuple[float, ...] = ()
  steps: str = 'last'
  patience: float = PATIENCE
  features: tuple[str | Spec | None, ...] = ()
  metrics: tuple[str | Spec | None, ...] = ()
  samples: int = 10_000
  sets: int = 0
  real: int = 50_000
  of: str = ''
  against: str = ''
  out: str = ''
  tune: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    weights = tuple(map(plain_weights, self.weights))
    object.__setattr__(self, 'weights', weights)
    super().__post_init__()
    if self.ema:
      object.__setattr__(self, 'weights', weights_of_ema(self.ema))
    check_steps(self.steps)
    if self.tune:
      self._check_tune()
    defaults = {field.name: field.default for field in dataclasses.fields(self)}
    given = {k for k, v in vars(self).items() if v != defaults[k]}
    for names, needed in NEEDED.items():
      if (idle := [n for n in names if n in given]) and not given & {*needed}:
        options = ' or '.join(f'--{name}' for name in needed)
        raise ConfigError(f'--{idle[0]} has no effect without {options}')

  def _check_tune(self) -> None:
    """Fills in the model, and refuses several checkpoints or weights."""
    if self.of:
      raise ConfigError('--tune has no effect with --of')
    object.__setattr__(self, 'model', self.model or (STUDENT,))
    if is_several(self.steps) or len(self.weights) > 1:
      raise ConfigError(
        f'--tune={",".join(self.tune)} must be of one step and one --weights'
      )
    if self.metrics and FRECHET not in named_specs(self.metrics):
      raise ConfigError(
        f'--tune={",".join(self.tune)} must have the metric {FRECHET!r} in '
        '--metrics: the least distance is the best'
      )


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Prints rows, and adds those of a step to W/<stage>/evaluations/<step>/.

  Raises:
    ConfigError: if the stage is not trained, has no evaluators, or the options
      do not fit it.
    Halted: if its folder is removed or set aside meanwhile; at the end, with
      all other rows written, if something could not be measured.
    FileNotFoundError: if no checkpoint appeared while waiting.
  """
  name = options.stage or list(blueprints.trained)[-1]
  blueprint = blueprints[name]
  folder = blueprint.folder / CHECKPOINTS
  stages = {w: swept(blueprint, options, w) for w in options.weights}
  for stage in stages.values():
    if stage is not blueprint:  # which is checked already
      check_evaluators(stage)
  if not next(iter(stages.values())).stage.evaluators:
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
  kept = kept_at(blueprint, options)
  if is_several(options.steps):
    asked = f'--steps={options.steps} --weights={",".join(options.weights)}'
    steps = with_some(steps, kept, asked)
  rows: list[Row] = []
  failed: list[Unmeasured] = []
  for step, state in read_each(folder, steps, lambda n: restore(assembly(), n)):
    check_same(blueprint.folder, here())
    for which in kept(step):
      measured = dataclasses.replace(assembly(), blueprint=stages[which])
      try:
        rows += measure(measured, state, here(), which)
      except Unmeasured as error:
        rows += error.rows
        failed.append(error)
    refresh(blueprints.workdir)
  if options.tune and jax.process_index() == 0:
    check_same(blueprint.folder, here())
    with locked(blueprint.folder / EVALUATIONS, 'evaluate', wait=WAIT):
      presets = best(blueprint, options, rows, failed)
    tell(presets)
  if is_several(options.steps) and jax.process_index() == 0:
    write_rows(blueprint.folder / EVALUATIONS, '', rows)
  if failed:
    raise failed[0]
  return rows


def best(
  blueprint: Blueprint,
  options: Options,
  rows: list[Row],
  failed: Sequence[Unmeasured],
) -> list[Preset]:
  """Writes the best way for each NFE, also of the roles that are left."""
  try:
    return write_best(blueprint, options, rows)
  except ValueError as error:
    if failed:
      raise failed[0] from error
    raise


def kept_at(
  blueprint: Blueprint, options: Options
) -> Callable[[int], Sequence[str]]:
  """Step -> its weights: all that are given, of several steps those it has."""
  if not is_several(options.steps):
    return lambda step: options.weights
  roles = [n for n in blueprint.drawable if n in blueprint.learners]
  return functools.cache(
    lambda step: usable(blueprint, roles, options.weights, step)
  )


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

  Raises:
    Unmeasured: if something could not be measured, after the rows are written.
  """
  folder = assembly.blueprint.folder / EVALUATIONS / f'{int(state.step):08d}'
  place = folder if which == 'ema' else folder / which.replace(':', '_')
  blocks, failed = blocks_in(place), None
  try:
    rows = measure_stage(
      assembly,
      state,
      place,
      each=lambda row: say(describe(row)),
      which=which,
      blocks=blocks,
    )
  except Unmeasured as error:
    rows, failed = error.rows, error
  if jax.process_index() == 0:
    check_same(assembly.blueprint.folder, here)
    write_rows(folder.parent, folder.name, rows)
    if failed is None:
      blocks.clear()
    publish(place, place, rows)
  if failed is not None:
    raise failed
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
  """The stage, with its evaluators replaced by what the options say.

  Roles that do not learn have no other weights, so they are there only once.
  """
  spec = blueprint.spec
  if options.metrics or options.features or options.tune:
    spec = with_quality(
      spec,
      options.features,
      options.metrics,
      samples=options.samples,
      sets=options.sets or (1 if options.tune else SETS),
      real=options.real,
      seed=HELD_OUT if options.tune else 0,
      pictures=not options.tune,
    )
  if options.model:
    first = which == options.weights[0]
    roles = [n for n in options.model if first or n in blueprint.learners]
    sweep = {role: entries(blueprint, role, options) for role in roles}
    evaluators = {
      name: {**evaluator, 'sweep': sweep}
      for name, evaluator in spec['evaluators'].items()
      if 'sweep' in evaluator and roles
    }
    spec = {**spec, 'evaluators': evaluators}
  return blueprint if spec is blueprint.spec else blueprint.rebound(spec)


def entries(blueprint: Blueprint, role: str, options: Options) -> list[Any]:
  """The entries of a role's sweep."""
  found = tried(blueprint, role, options)
  return [[each.sampler, each.nfe, each.how()] for each in found]
