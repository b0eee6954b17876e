"""A trained stage: its networks with weights, for sampling."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.given import check_conditions
from flowdistill.build.prompts import encode_prompts
from flowdistill.build.sampling import CondAt, Generator
from flowdistill.build.weights import weights_in_stage
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sections import Reference
from flowdistill.flow.noise import check_range
from flowdistill.flow.spec import LABEL, DataSpec
from flowdistill.stages.assembly import generator, sampling_layout
from flowdistill.training.sharding import Layout
from flowdistill.workdir import weights
from flowdistill.workdir.weights import Trained

Cond = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TrainedStage:
  """A stage and its networks.

  Attributes:
    blueprint: the stage.
    layout: of arrays over all devices.
    models: role -> network with weights.
    which: the weights of roles that learn: 'ema', 'params', an EMA's name, or
      'power:0.1'.
  """

  blueprint: Blueprint
  layout: Layout
  models: Mapping[str, Trained]
  which: str = 'ema'

  def at(self, step: int) -> 'TrainedStage':
    """The same stage, with the weights of another checkpoint."""
    learns = [n for n in self.models if n in self.blueprint.learners]
    models = {
      name: load_learner(
        self.blueprint, name, self.which, self.layout, step, self.models
      )
      for name in learns
    }
    return dataclasses.replace(self, models={**self.models, **models})

  def generator(self, role: str) -> Generator:
    """The generator of a role."""
    choices = [n for n in self.models if self.blueprint.role(n).is_drawable]
    if role not in choices:
      raise ConfigError(f'no model {role!r}; {suggest(role, choices)}')
    params = {name: model.params for name, model in self.models.items()}
    return generator(self.blueprint, role, params, self.layout)


def load_stage(
  blueprint: Blueprint,
  which: str = 'ema',
  step: int | None = None,
  roles: Iterable[str] | None = None,
) -> TrainedStage:
  """Reads the weights of a stage's networks, by default of all its roles."""
  layout, names = sampling_layout(blueprint), list(roles or blueprint.roles)
  models = {
    name: weights.load(name, blueprint.weights(name), layout)
    for name in names
    if name not in blueprint.learners
  }
  models |= {
    name: load_learner(blueprint, name, which, layout, step, models)
    for name in names
    if name in blueprint.learners
  }
  models = {name: models[name] for name in names}
  return TrainedStage(blueprint, layout, models, which)


def load_learner(
  blueprint: Blueprint,
  name: str,
  which: str,
  layout: Layout,
  step: int | None,
  loaded: Mapping[str, Trained],
) -> Trained:
  """Reads the weights of a role that learns, as it was trained: LoRA too.

  Its base may be among the frozen networks that are `loaded`.
  """
  reference = Reference(str(blueprint.folder), which, name)
  abstract = weights_in_stage(reference, blueprint)
  row = blueprint.learners[name]
  base = loaded.get(row.base) if row.base not in (None, name) else None
  return weights.load(name, abstract, layout, step, merge=False, base=base)


def conditions(
  blueprint: Blueprint,
  n: int,
  label: Any = None,
  cond: Cond | None = None,
  *,
  prompts: str | Sequence[str] | None = None,
  first: int = 0,
  null: bool = False,
) -> Mapping[str, np.ndarray]:
  """`cond` of n examples; see `conditions_at`."""
  first, n = check_range(first, n)
  at = conditions_at(
    blueprint, n, label, cond, prompts=prompts, first=first, null=null
  )
  return at(np.arange(n))


def conditions_at(
  blueprint: Blueprint,
  n: int,
  label: Any = None,
  cond: Cond | None = None,
  *,
  prompts: str | Sequence[str] | None = None,
  first: int = 0,
  null: bool = False,
) -> CondAt:
  """The conditions of n examples by their index [b], from 0 to n − 1.

  Args:
    blueprint: of the stage.
    n: number of examples.
    label: one class for all, or n classes; None goes through all of them.
    cond: the other conditions: name -> one value for all, or n of them.
    prompts: texts, which are repeated cyclically if they are not n; None is
      none.
    first: number of the first example: what is not given depends on it.
    null: whether missing conditions are unconditional; otherwise they are all
      classes in turn, and the conditions of the data set's examples.

  Raises:
    ValueError: if a condition does not exist, or has another shape, or values
      that it cannot have.
  """
  spec, values = blueprint.sees, dict(cond or {})
  if label is not None:
    if LABEL in values:
      raise ValueError(f'label = {label} has no effect: cond has a label too')
    values[LABEL] = label
  given = check_conditions(spec, n, values)
  said = {} if prompts is None else prompted(spec, given, prompts)
  rest = [name for name in spec.cond if name not in {**given, **said}]

  def at(index: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {name: rows[index] for name, rows in given.items()}
    arrays |= {name: rows[index % len(rows)] for name, rows in said.items()}
    if null:
      return arrays | {name: spec.cond[name].full(len(index)) for name in rest}
    if rest == [LABEL]:
      return arrays | spec.each_class(first + index)
    if not rest:
      return arrays
    taken = blueprint.data.conditions((first + index) % len(blueprint.data))
    return arrays | {name: taken[name] for name in rest}

  return at


def prompted(
  spec: DataSpec, given: Cond, prompts: str | Sequence[str]
) -> dict[str, np.ndarray]:
  """The conditions of prompts, which must not be given as well."""
  said = encode_prompts(spec, prompts)
  if both := sorted(said.keys() & given.keys()):
    raise ValueError(f'prompts give {both}, which cond gives, too')
  return said
