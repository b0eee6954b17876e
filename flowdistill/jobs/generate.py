"""`--job=generate`: draws samples from a trained stage into files."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowdistill.build import objects as build
from flowdistill.config.bind import ConfigError, Spec, suggest
from flowdistill.config.sampling import Sampling
from flowdistill.figures.images import is_images, write_grid, write_images
from flowdistill.run import Run, load
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CHECKPOINTS
from flowdistill.workdir.results import say
from flowdistill.workdir.steps import (
  PATIENCE,
  check_steps,
  chosen,
  is_several,
  read_each,
)

FORMS = ('npz', 'png', 'grid')


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """What to draw, how, and where to.

  Attributes:
    stage: its name; by default the last one.
    model: a role, student or teacher.
    weights: of the student: ema, params, or the name of an EMA.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new one after which to wait no more.
    samples: how many.
    label: a class for all of them; -1 goes through all classes.
    seed: of the noise.
    write: npz, png (a file for each image) and grid (all in one), with commas.
    out: folder of the files; by default W/<stage>/generated. Of several
      checkpoints each has a folder in it.
  """

  stage: str = ''
  model: str = 'student'
  weights: str = 'ema'
  steps: str = 'last'
  patience: float = PATIENCE
  samples: int = 64
  label: int = -1
  seed: int = 0
  write: str = 'npz,png'
  out: str = ''

  def __post_init__(self) -> None:
    check_steps(self.steps)
    for form in self.forms:
      if form not in FORMS:
        raise ConfigError(f'--write={self.write}: {suggest(form, FORMS)}')

  @property
  def forms(self) -> list[str]:
    """What is written."""
    return self.write.split(',')


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> np.ndarray:
  """Writes the samples of each checkpoint; returns the last ones, [n, ...].

  Raises:
    ConfigError: if the stage is not trained, or not at that step, or there is
      nothing to write.
    FileNotFoundError: if it waited, and there was no checkpoint.
  """
  name = options.stage or list(stages)[-1]
  folder = origins.stage_folder(workdir, name)
  out = pathlib.Path(options.out) if options.out else folder / 'generated'
  stage = build.bind_stage(stages[name])
  source = stage.dataset()
  if 'npz' not in options.forms and not is_images((1, *source.shape)):
    raise ConfigError(
      f'--write={options.write}: examples {list(source.shape)} are no images '
      'of one or three channels; there is npz'
    )
  steps = chosen(
    folder / CHECKPOINTS,
    options.steps,
    build.total_steps(stage, source),
    patience=options.patience,
  )
  x, read = np.zeros(0), reader(folder, options.weights)
  for step, model in read_each(folder / CHECKPOINTS, steps, read):
    x = draw(model, options)
    place = out / f'{step:08d}' if is_several(options.steps) else out
    write(x, place, options.forms)
    say(f'{len(x)} samples of step {step} are in {place}')
  return x


def reader(folder: pathlib.Path, weights: str) -> Callable[[int], Run]:
  """Reads the student of a step; all else is read once, and kept."""
  kept: list[Run] = []

  def read(step: int) -> Run:
    kept[:] = [
      kept[0].at(step) if kept else load(folder, weights=weights, step=step)
    ]
    return kept[0]

  return read


def draw(model: Run, options: Options) -> np.ndarray:
  """The samples of one checkpoint, [n, ...]."""
  return model.sample(
    options.samples,
    model=options.model,
    sampler=options.sampler,
    nfe=options.nfe,
    label=None if options.label < 0 else options.label,
    seed=options.seed,
    **options.how(),
  )


def write(x: np.ndarray, out: pathlib.Path, forms: Sequence[str]) -> None:
  """samples.npz with x0 [n, ...]; of images 00000.png, ... and grid.png."""
  out.mkdir(parents=True, exist_ok=True)
  if 'npz' in forms:
    np.savez(out / 'samples.npz', x0=x)
  if 'png' in forms and is_images(x.shape):
    write_images(out, x)
  if 'grid' in forms and is_images(x.shape):
    write_grid(out / 'grid.png', x)
