"""`--job=generate`: writes samples of a trained stage to files."""

import dataclasses
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sampling import Sampling
from flowdistill.config.sections import STUDENT
from flowdistill.figures.images import is_images, write_grid, write_images
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.trained import TrainedStage, conditions, load_stage
from flowdistill.training.json_files import naming
from flowdistill.workdir.folders import CHECKPOINTS
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
  """The samples, and the files to write.

  Attributes:
    stage: its name; by default the last one.
    model: a role, student or teacher.
    weights: of the student: ema, params, or the name of an EMA.
    steps: of the checkpoints: last, a step, a range such as 500:2000, all, or
      wait, for new ones as they appear.
    patience: seconds without a new checkpoint after which waiting ends.
    samples: number of samples.
    label: a class for all of them; -1 goes through all classes.
    cond: an .npz with other conditions, each with one value for all samples or
      one per sample; by default those of the data set.
    seed: of the noise.
    write: npz, png (a file per image) and grid (all in one), with commas.
    out: folder of the files, with a subfolder for each of several checkpoints;
      by default W/<stage>/generated.
  """

  stage: str = ''
  model: str = STUDENT
  weights: str = 'ema'
  steps: str = 'last'
  patience: float = PATIENCE
  samples: int = 64
  label: int = -1
  cond: str = ''
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
    """The formats to write."""
    return self.write.split(',')

  @property
  def given(self) -> dict[str, np.ndarray]:
    """The conditions in the file `cond`."""
    if not self.cond:
      return {}
    try:
      with np.load(pathlib.Path(self.cond).expanduser()) as arrays:
        return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
      raise ConfigError(
        f'--cond={self.cond} must be an .npz: {error}'
      ) from error


def run(blueprints: Blueprints, options: Options) -> np.ndarray:
  """Writes the samples of each checkpoint; returns the last ones, [n, ...].

  Raises:
    ConfigError: if there is no such checkpoint, or no file to write.
    FileNotFoundError: if no checkpoint appeared while waiting.
  """
  blueprint = blueprints[options.stage or list(blueprints.trained)[-1]]
  folder, shape = blueprint.folder, blueprint.data.spec.shape
  out = pathlib.Path(options.out) if options.out else folder / 'generated'
  if 'npz' not in options.forms and not is_images((1, *shape)):
    raise ConfigError(
      f'--write={options.write}: examples {list(shape)} are no images of one '
      'or three channels; use npz'
    )
  steps = chosen(
    folder / CHECKPOINTS,
    options.steps,
    blueprint.total,
    patience=options.patience,
  )
  x, read = np.zeros(0), reader(blueprint, options)
  for step, stage in read_each(folder / CHECKPOINTS, steps, read):
    x = draw(stage, options)
    place = out / f'{step:08d}' if is_several(options.steps) else out
    if jax.process_index() == 0:
      with naming(place):
        write(x, place, options.forms)
    say(f'{len(x)} samples of step {step} are in {place}')
  return x


def reader(
  blueprint: Blueprint, options: Options
) -> Callable[[int], TrainedStage]:
  """Reads the network of a step; frozen weights are read only once."""
  stage: TrainedStage | None = None

  def read(step: int) -> TrainedStage:
    nonlocal stage
    if stage is None:
      stage = load_stage(blueprint, options.weights, step, [options.model])
    else:
      stage = stage.at(step)
    return stage

  return read


def draw(stage: TrainedStage, options: Options) -> np.ndarray:
  """The samples of one checkpoint, [n, ...]."""
  label = None if options.label < 0 else options.label
  cond = conditions(stage.blueprint, options.samples, label, options.given)
  return stage.generator(options.model)(
    options.samples,
    sampler=options.sampler,
    nfe=options.nfe,
    cond=cond,
    seed=options.seed,
    **options.how(),
  ).x


def write(x: np.ndarray, out: pathlib.Path, forms: Sequence[str]) -> None:
  """samples.npz with x0 [n, ...]; of images 00000.png, ... and grid.png."""
  out.mkdir(parents=True, exist_ok=True)
  if 'npz' in forms:
    np.savez(out / 'samples.npz', x0=x)
  if 'png' in forms and is_images(x.shape):
    write_images(out, x)
  if 'grid' in forms and is_images(x.shape):
    write_grid(out / 'grid.png', x)
