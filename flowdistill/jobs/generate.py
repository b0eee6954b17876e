"""`--job=generate`: writes samples of a trained stage to files."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.prompts import read_prompts
from flowdistill.build.sampling_plan import called
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.resolve import shown
from flowdistill.config.sampling import Sampling, weights_of_ema
from flowdistill.config.sections import STUDENT
from flowdistill.figures.samples import (
  FORMS,
  file_names,
  kept,
  write_samples,
)
from flowdistill.files.atomic import naming
from flowdistill.files.npz import read_npz
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import NO_LABEL, chosen_sampling, path_of
from flowdistill.stages.resized import in_shape
from flowdistill.stages.trained import (
  TrainedStage,
  conditions_at,
  load_stage,
)
from flowdistill.training.loop import Stop
from flowdistill.training.progress import progress
from flowdistill.training.watchdog import AGAIN
from flowdistill.workdir.ema_snapshots import usable, with_some
from flowdistill.workdir.folders import CHECKPOINTS
from flowdistill.workdir.results import say
from flowdistill.workdir.steps import (
  PATIENCE,
  check_steps,
  chosen,
  is_several,
  read_each,
)
from flowdistill.workdir.swap import (
  check_ours,
  check_parents,
  locked,
  mark,
  swapped,
)

DEFAULT, PER_PROMPT = 64, -1  # samples


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """The samples, and the files to write.

  Attributes:
    stage: its name; by default the last one.
    model: a role, student or teacher.
    weights: of the student: ema, params, the name of an EMA, or power:0.1 for
      the power EMA of that relative width.
    ema: a relative width: 0.1 is short for --weights=power:0.1.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new checkpoint after which waiting ends.
    preset: NFE of a preset that `--job=evaluate --tune` has chosen, in place of
      sampler, nfe, options, grid and guidance.
    samples: number of samples; -1 is one per prompt, or 64 without prompts.
    prompts: what they are to show, in turn: a file with a prompt per line, or
      the prompts themselves, in lines.
    label: a class for all of them; -1 goes through all classes.
    cond: an .npz with other conditions, each with one value for all samples or
      one per sample; by default those of the data set.
    seed: of the noise.
    height: of a picture, in pixels; 0 is that of the data.
    width: likewise.
    write: npz, png (a file per image) and grid (all in one), with commas.
    out: folder of the files, with a subfolder for each of several checkpoints;
      by default W/<stage>/generated. It must be new, empty, or written by this
      job: the old files are then replaced, all at once.
  """

  stage: str = ''
  model: str = STUDENT
  weights: str = 'ema'
  ema: float | None = None
  steps: str = 'last'
  patience: float = PATIENCE
  preset: int = 0
  samples: int = PER_PROMPT
  prompts: str = ''
  label: int = NO_LABEL
  cond: str = ''
  seed: int = 0
  height: int = 0
  width: int = 0
  write: str = 'npz,png'
  out: str = ''

  def __post_init__(self) -> None:
    if self.ema is not None:
      object.__setattr__(self, 'weights', *weights_of_ema([self.ema]))
    check_steps(self.steps)
    if self.samples == PER_PROMPT:
      object.__setattr__(self, 'samples', len(self.lines) or DEFAULT)
    for form in self.forms:
      if form not in FORMS:
        raise ConfigError(f'--write={self.write}: {suggest(form, FORMS)}')
    if self.preset < 0:
      raise ConfigError(f'--preset={self.preset} must be at least 1')
    for name in ('height', 'width'):
      if (side := getattr(self, name)) < 0:
        raise ConfigError(f'--{name}={side} must be at least 1, in pixels')
    if not self.patience >= 0:
      raise ConfigError(f'--patience={self.patience} must be at least 0')

  @property
  def forms(self) -> list[str]:
    """The formats to write."""
    return self.write.split(',')

  @property
  def lines(self) -> list[str]:
    """The prompts; none by default."""
    try:
      return read_prompts(self.prompts) if self.prompts else []
    except ValueError as error:
      raise ConfigError(f'--prompts={shown(self.prompts)}: {error}') from error

  @property
  def given(self) -> dict[str, np.ndarray]:
    """The conditions in the file `cond`."""
    if not self.cond:
      return {}
    path = path_of('cond', self.cond)
    try:
      return read_npz(path, list)
    except ValueError as error:
      raise ConfigError(
        f'--cond={self.cond} must be an .npz: {error}'
      ) from error


def run(blueprints: Blueprints, options: Options) -> list[pathlib.Path]:
  """Writes the samples of each checkpoint; returns the folders.

  Raises:
    ConfigError: if there is no such checkpoint, no file to write, or a folder
      with files that this job has not written.
    FileNotFoundError: if no checkpoint appeared while waiting.
  """
  blueprint = blueprints[options.stage or list(blueprints.trained)[-1]]
  options = chosen_sampling(options, blueprint)
  blueprint = with_shape(blueprint, options)
  folder, shape = blueprint.folder, (1, *blueprint.images.shape)
  out = path_of('out', options.out) if options.out else None
  out = (out or folder / 'generated').resolve()
  if not kept(options.forms, shape):
    raise ConfigError(
      f'--write={options.write}: examples {[*shape[1:]]} are no images of one '
      'or three channels; use npz'
    )
  check_parents(out, '--out')
  if is_several(options.steps) and out.is_dir():
    with locked(out):
      check_ours(out, '--out')
  steps = chosen(
    folder / CHECKPOINTS,
    options.steps,
    blueprint.total,
    patience=options.patience,
  )
  if is_several(options.steps) and options.model in blueprint.learners:
    names, roles = [options.weights], [options.model]
    asked = f'--steps={options.steps} --weights={options.weights}'
    steps = with_some(
      steps, lambda step: usable(blueprint, roles, names, step), asked
    )
  places, read = [], reader(blueprint, options)
  for step, stage in read_each(folder / CHECKPOINTS, steps, read):
    place = out / f'{step:08d}' if is_several(options.steps) else out
    try:
      with naming(place):
        write(stage, step, place, options)
    except ValueError as error:  # such as a tolerance that is not reached
      raise ConfigError(str(error)) from error
    say(f'{options.samples} samples of step {step} are in {place}')
    places.append(place)
  return places


def with_shape(blueprint: Blueprint, options: Options) -> Blueprint:
  """The stage, abstractly, for pictures of the options' height and width.

  Raises:
    ConfigError: if they cannot be drawn.
  """
  sides = options.height or None, options.width or None
  try:
    return in_shape(blueprint, roles_of(blueprint, options), *sides)
  except ValueError as error:
    given = f'--height={options.height} --width={options.width}'
    raise ConfigError(f'{given}: {error}') from error


def roles_of(blueprint: Blueprint, options: Options) -> list[str]:
  """The roles that are called."""
  guides = functools.partial(blueprint.guides_of, options.model)
  return [*called(options.model, options.guidance, guides)]


def reader(
  blueprint: Blueprint, options: Options
) -> Callable[[int], TrainedStage]:
  """Reads the network of a step; frozen weights are read only once."""
  stage: TrainedStage | None = None
  roles = roles_of(blueprint, options)

  def read(step: int) -> TrainedStage:
    nonlocal stage
    if stage is None:
      stage = load_stage(blueprint, options.weights, step, roles)
    else:
      stage = stage.at(step)
    return stage

  return read


def batches(stage: TrainedStage, options: Options) -> Generator[np.ndarray]:
  """The samples of one checkpoint, float32 [b, ...] each."""
  label = None if options.label == NO_LABEL else options.label
  drawn = stage.generator(options.model).stream(
    options.samples,
    sampler=options.sampler,
    nfe=options.nfe,
    cond_at=conditions_at(
      stage.blueprint,
      options.samples,
      label,
      options.given,
      prompts=options.lines or None,
    ),
    seed=options.seed,
    **options.how(),
  )
  return (samples.x for samples in drawn)


def write(
  stage: TrainedStage, step: int, place: pathlib.Path, options: Options
) -> None:
  """Draws from one checkpoint into a folder, which is replaced at the end.

  Exits if the process is asked to stop; the folder then stays as it was.
  """
  n, shape = options.samples, (1, *stage.blueprint.images.shape)
  size = stage.generator(options.model).rows_at_once
  total = -(-n // size)
  vote = None if jax.process_count() == 1 else stage.layout.any
  bar = progress(total, 0, f'step {step}', batch_size=size)
  with Stop(vote) as stop, bar, written(place) as folder:
    x = batches(stage, options)
    parts = write_samples(folder, n, x, options.forms) if folder else x
    with closing(parts):
      for number, _ in enumerate(parts, 1):
        bar.update(number, loss=None)
        if stop.asked() and number < total:
          say(f'stopped; {place} is as it was')
          sys.exit(AGAIN)
    if folder:
      about = {'step': step, **vars(options), 'prompts': options.lines}
      mark(folder, file_names(n, options.forms, shape), about)


def written(place: pathlib.Path) -> AbstractContextManager[pathlib.Path | None]:
  """The folder that replaces `place`, on the first host; None on others."""
  return nullcontext() if jax.process_index() else swapped(place, '--out')
