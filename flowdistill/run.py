"""A finished run in Python: load it, draw samples, get an array.

run = flowdistill.load('runs/quickstart')
x = run.sample(16, sampler='flow_map', nfe=2, label=3)
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowdistill.build import objects as build
from flowdistill.build.sampling import Generator
from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sections import Origin
from flowdistill.datasets.source import Source
from flowdistill.workdir import origins
from flowdistill.workdir.origins import Trainee


@dataclasses.dataclass(frozen=True)
class Run:
  """A stage that has been trained, and the networks that it knows.

  Attributes:
    folder: of the stage.
    source: the real examples.
    models: role -> network: 'student', and frozen ones such as 'teacher'.
    weights: which of the student.
  """

  folder: pathlib.Path
  source: Source
  models: dict[str, Trainee]
  weights: str = 'ema'

  def sample(
    self,
    n: int,
    *,
    model: str = 'student',
    sampler: str = 'flow_map',
    nfe: int | None = 4,
    label: int | Sequence[int] | None = None,
    seed: int = 0,
    **options: Any,
  ) -> np.ndarray:
    """Draws n examples; number i is a function of (seed, i).

    Args:
      n: how many.
      model: a role of this stage.
      sampler: a name in SAMPLERS; 'euler' and 'heun' for a teacher.
      nfe: network calls for one example; None for 'rk45', which adapts.
      label: one class for all, or n classes; None goes through all classes.
      seed: of the noise.
      **options: of the sampler, such as gamma; 'grid' and 'guidance'.

    Returns:
      float32 [n, ...] in the range of the data.

    Raises:
      ValueError: for an unknown name, or an nfe that the sampler cannot have.
    """
    cond = conditions(self.source.num_classes, n, label)
    draw = self._generator(model)
    plan_sampling(sampler, nfe, options, spec=draw.spec, scalars=draw.scalars)
    how = {'sampler': sampler, 'nfe': nfe, 'seed': seed, **options}
    return draw(n, cond=cond, **how).x

  def encode(
    self,
    x0: np.ndarray,
    *,
    model: str = 'student',
    sampler: str = 'heun',
    nfe: int | None = 32,
    label: int | Sequence[int] | None = None,
    **options: Any,
  ) -> np.ndarray:
    """Goes back from data to noise: `sample` leads from there to x0 again.

    Args:
      x0: [n, ...] in the range of the data.
      model: a role of this stage, whose u(x_t, t, t) is its velocity.
      sampler: a solver of the ODE, as 'euler', 'heun', 'rk4' or 'rk45'.
      nfe: network calls for one example; None for 'rk45'.
      label: one class for all, or n classes; None is "no class".
      **options: of the sampler, 'grid' and 'guidance'.

    Returns:
      float32 [n, ...], standard normal if x0 is like the data.

    Raises:
      ValueError: for an unknown name, a sampler that cannot go back, or an nfe
        that it cannot have.
    """
    classes = self.source.num_classes
    label = classes if label is None and classes else label
    cond = conditions(classes, len(x0), label)
    draw = self._generator(model)
    plan_sampling(
      sampler,
      nfe,
      options,
      spec=draw.spec,
      scalars=draw.scalars,
      backwards=True,
    )
    how = {'sampler': sampler, 'nfe': nfe, **options}
    return draw.encode(x0, cond=cond, **how).x

  def at(self, step: int) -> 'Run':
    """The same networks, the student's weights of another checkpoint.

    Raises:
      ConfigError: if there is none of that step.
    """
    found = load_student(self.folder, self.weights, step)
    compiled = self.models['student'].model  # programs are kept by it
    student = dataclasses.replace(found, model=compiled)
    return dataclasses.replace(self, models={**self.models, 'student': student})

  def _generator(self, model: str) -> Generator:
    if model not in self.models:
      raise ConfigError(f'no model {model!r}; {suggest(model, self.models)}')
    chosen = self.models[model]
    return build.build_generator(
      chosen.model,
      chosen.params,
      self.source,
      chosen.stage.evaluation.batch_size,
    )


def load(
  workdir: str | os.PathLike[str],
  *,
  stage: str = '',
  weights: str = 'ema',
  step: int | None = None,
) -> Run:
  """Loads a run from its workdir, or one stage of it.

  Args:
    workdir: what `--workdir` was.
    stage: its name; by default the last one.
    weights: of the student: 'ema', 'params', or the name of an EMA.
    step: of the student's checkpoint; by default the last.

  Raises:
    ConfigError: if there is no such run or stage, or it has no checkpoint.
  """
  folder = pathlib.Path(workdir).expanduser()
  folder = folder / stage if stage else origins.last_stage(folder)
  spec = origins.load_spec(origins.last_stage(folder))
  frozen = build.bind_stage(spec).flows
  student = load_student(folder, weights, step)
  models = {'student': student} | {
    role: origins.load_weights(origin, folder.parent)
    for role, origin in frozen.items()
  }
  return Run(folder, student.stage.dataset(), models, weights)


def load_student(
  folder: pathlib.Path, weights: str, step: int | None
) -> Trainee:
  """The student of a stage's folder, of the last step or another."""
  return origins.load_weights(Origin(str(folder), weights), folder, step=step)


def conditions(
  num_classes: int, n: int, label: int | Sequence[int] | None
) -> dict[str, np.ndarray]:
  """`cond` of n examples; see `Run.sample` for `label`.

  Raises:
    ValueError: if a label does not exist, or there are not n of them.
  """
  if not num_classes:
    if label is not None:
      raise ValueError(f'label = {label}: these examples have no classes')
    return {}
  wanted = np.arange(n) % num_classes if label is None else np.asarray(label)
  if wanted.ndim > 1 or (wanted.ndim == 1 and len(wanted) != n):
    raise ValueError(f'label has shape {wanted.shape}: one, or n = {n}')
  if wanted.min() < 0 or wanted.max() > num_classes:
    raise ValueError(
      f'label = {label}: classes are 0 to {num_classes - 1}, and '
      f'{num_classes} is "no class"'
    )
  return {'label': np.broadcast_to(wanted, (n,)).astype(np.int32)}
