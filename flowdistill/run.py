"""A finished run in Python: load it, draw samples, get an array.

run = flowdistill.load('runs/quickstart')
x = run.sample(16, sampler='flow_map', nfe=2, label=3)
x = run.sample(prompts=['a red square', 'a blue circle'], nfe=2)
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.build.data import Data
from flowdistill.build.given import check_examples
from flowdistill.config.sections import STUDENT
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.resized import in_shape
from flowdistill.stages.space import check_recorded_space
from flowdistill.stages.trained import (
  Cond,
  TrainedStage,
  conditions,
  load_stage,
)
from flowdistill.workdir import folders
from flowdistill.workdir.presets import preset_of
from flowdistill.workdir.weights import Trained


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained stage and its networks.

  Attributes:
    stage: the networks, on all devices.
  """

  stage: TrainedStage

  @property
  def folder(self) -> pathlib.Path:
    """The folder of the stage."""
    return self.stage.blueprint.folder

  @property
  def source(self) -> Data:
    """The real examples, which are opened on first use."""
    return self.stage.blueprint.data

  @property
  def models(self) -> Mapping[str, Trained]:
    """Role -> network: 'student', and frozen ones such as 'teacher'."""
    return self.stage.models

  def preset(self, nfe: int, model: str = STUDENT) -> dict[str, Any]:
    """Options of `sample` that `--job=evaluate --tune` has chosen for an NFE.

    `run.sample(16, **run.preset(2))` draws 16 examples with the best of them.

    Raises:
      ConfigError: if there is no such preset, or it is of other weights.
    """
    found = preset_of(self.folder, model, nfe)
    if model in self.stage.blueprint.learners:
      found.check(self.stage.which)
    chosen = {'model': model, 'sampler': found.sampler, 'nfe': nfe}
    return chosen | found.options

  def sample(
    self,
    n: int | None = None,
    *,
    prompts: str | Sequence[str] | None = None,
    model: str = STUDENT,
    sampler: str = 'flow_map',
    nfe: int | None = 4,
    label: int | Sequence[int] | None = None,
    cond: Cond | None = None,
    seed: int = 0,
    first: int = 0,
    height: int | None = None,
    width: int | None = None,
    **options: Any,
  ) -> np.ndarray:
    """Draws n examples; number i is a function of (seed, i).

    Args:
      n: number of examples, at least 1; by default one per prompt.
      prompts: what they are to show, one text or several, which are repeated
        cyclically; None is no text.
      model: a role of this stage.
      sampler: a name in SAMPLERS or PUBLISHED; 'euler' and 'heun' for a
        teacher.
      nfe: network calls for one example; None for the adaptive 'rk45'.
      label: one class for all, or n classes; None goes through all classes.
      cond: the other conditions: name -> one value for all, or n values; by
        default those of the data set's examples.
      seed: of the noise, in [0, 2³²).
      first: number of the first example: 10 after 10 give the last of 20.
      height: of a picture, in pixels; by default that of the data.
      width: likewise.
      **options: of the sampler, such as gamma; 'grid' and 'guidance'.

    Returns:
      float32 [n, ...] in the range of the data.

    Raises:
      ValueError: for an unknown name, an impossible nfe, or a number, label,
        prompt, condition or shape that cannot be.
    """
    if n is None:
      n = len([prompts] if isinstance(prompts, str) else prompts or ())
    blueprint = in_shape(self.stage.blueprint, self.models, height, width)
    stage = dataclasses.replace(self.stage, blueprint=blueprint)
    generator = stage.generator(model)
    given = conditions(blueprint, n, label, cond, prompts=prompts, first=first)
    how = {'sampler': sampler, 'nfe': nfe, 'seed': seed, 'first': first}
    return generator(n, cond=given, **how, **options).x

  def encode(
    self,
    x0: np.ndarray,
    *,
    model: str = STUDENT,
    sampler: str = 'heun',
    nfe: int | None = 32,
    label: int | Sequence[int] | None = None,
    cond: Cond | None = None,
    **options: Any,
  ) -> np.ndarray:
    """Integrates from data to noise, the inverse of sampling.

    Args:
      x0: [n, ...] in the range of the data.
      model: a role of this stage, whose u(x_t, t, t) is its velocity.
      sampler: a solver of the ODE, as 'euler', 'heun', 'rk4' or 'rk45'.
      nfe: network calls for one example; None for 'rk45'.
      label: one class for all, or n classes; None is unconditional.
      cond: the other conditions; missing ones are unconditional.
      **options: of the sampler, 'grid' and 'guidance'.

    Returns:
      float32 [n, ...], standard normal if x0 has the distribution of the data.

    Raises:
      ValueError: for an unknown name, a sampler that is no ODE solver, an
        impossible nfe, or examples that are not of the data's shape, float,
        finite and, if they are pictures, near [−1, 1].
    """
    generator = self.stage.generator(model)
    blueprint = self.stage.blueprint
    x = check_examples(blueprint.images.shape, x0)
    given = conditions(blueprint, len(x), label, cond, null=True)
    how = {'sampler': sampler, 'nfe': nfe, **options}
    return generator.encode(x, cond=given, **how).x

  def at(self, step: int) -> 'Run':
    """The same run, with the student's weights of another checkpoint."""
    return Run(self.stage.at(step))


def load(
  workdir: str | os.PathLike[str],
  *,
  stage: str = '',
  weights: str = 'ema',
  step: int | None = None,
) -> Run:
  """Loads a run from its workdir, or one stage of it, without its data.

  Args:
    workdir: the `--workdir` of the training.
    stage: its name; by default the last one that trains.
    weights: of the student: 'ema', 'params', the name of an EMA, or
      'power:0.1'.
    step: of the student's checkpoint; by default the last.

  Raises:
    ConfigError: if there is no such run or stage, it has no checkpoint, or the
      weights of its space are others than when it was trained.
  """
  folder = folders.given_path(workdir, f'workdir = {str(workdir)!r}')
  folder = folder / stage if stage else folders.last_stage(folder)
  blueprint = Blueprints({}, folder.parent).at(str(folder))
  check_recorded_space(blueprint)
  return Run(load_stage(blueprint, weights, step))
