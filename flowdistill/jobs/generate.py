"""`--job=generate`: draws samples from a trained stage into files."""

import dataclasses
import pathlib
from collections.abc import Mapping

import matplotlib.image
import numpy as np

from flowdistill import origins
from flowdistill.bind import Spec
from flowdistill.jobs.results import say
from flowdistill.jobs.sampling import Sampling
from flowdistill.run import load


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """What to draw, how, and where to.

  Attributes:
    stage: its name; by default the last one.
    model: a role, student or teacher.
    weights: of the student: ema, params, or the name of an EMA.
    samples: how many.
    label: a class for all of them; -1 goes through all classes.
    seed: of the noise.
    out: folder of the files; by default W/<stage>/generated.
  """

  stage: str = ''
  model: str = 'student'
  weights: str = 'ema'
  samples: int = 64
  label: int = -1
  seed: int = 0
  out: str = ''


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> np.ndarray:
  """Writes samples.npz, and for images one PNG each; returns [n, ...].

  Raises:
    ConfigError: if the stage is not trained.
  """
  name = options.stage or list(stages)[-1]
  folder = origins.stage_folder(workdir, name)
  x = load(folder, weights=options.weights).sample(
    options.samples,
    model=options.model,
    sampler=options.sampler,
    nfe=options.nfe,
    label=None if options.label < 0 else options.label,
    seed=options.seed,
    **options.how(),
  )
  out = pathlib.Path(options.out) if options.out else folder / 'generated'
  write(x, out)
  say(f'{len(x)} samples are in {out}')
  return x


def write(x: np.ndarray, out: pathlib.Path) -> None:
  """samples.npz with x0 [n, ...], and images in [−1, 1] as 00000.png."""
  out.mkdir(parents=True, exist_ok=True)
  np.savez(out / 'samples.npz', x0=x)
  if x.ndim == 4:
    for i, image in enumerate(pixels(x)):
      path = out / f'{i:05d}.png'
      matplotlib.image.imsave(path, image, vmin=0, vmax=255, cmap='gray')


def pixels(x: np.ndarray) -> np.ndarray:
  """[n, h, w, 1 or 3] in [−1, 1] -> uint8 [n, h, w] or [n, h, w, 3]."""
  rounded = np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)
  return rounded[..., 0] if x.shape[-1] == 1 else rounded
