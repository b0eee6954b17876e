"""A trained stage: its networks with weights, for sampling."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.sampling import Generator
from flowdistill.build.weights import weights_in_stage
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sections import Reference
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
    which: the weights of roles that learn: 'ema', 'params', or an EMA's name.
  """

  blueprint: Blueprint
  layout: Layout
  models: Mapping[str, Trained]
  which: str = 'ema'

  def at(self, step: int) -> 'TrainedStage':
    """The same stage, with the weights of another checkpoint."""
    learns = [n for n in self.models if n in self.blueprint.learners]
    models = {
      name: load_learner(self.blueprint, name, self.which, self.layout, step)
      for name in learns
    }
    return dataclasses.replace(self, models={**self.models, **models})

  def generator(self, role: str) -> Generator:
    """The generator of a role."""
    choices = [n for n in self.models if self.blueprint.role(n).is_drawable]
    if role not in choices:
      raise ConfigError(f'no model {role!r}; {suggest(role, choices)}')
    params = self.models[role].params
    return generator(self.blueprint, role, params, self.layout)


def load_stage(
  blueprint: Blueprint,
  which: str = 'ema',
  step: int | None = None,
  roles: Iterable[str] | None = None,
) -> TrainedStage:
  """Reads the weights of a stage's networks, by default of all its roles."""
  layout = sampling_layout(blueprint)
  models = {
    name: load_learner(blueprint, name, which, layout, step)
    if name in blueprint.learners
    else weights.load(name, blueprint.weights(name), layout)
    for name in (roles or blueprint.roles)
  }
  return TrainedStage(blueprint, layout, models, which)


def load_learner(
  blueprint: Blueprint,
  name: str,
  which: str,
  layout: Layout,
  step: int | None,
) -> Trained:
  """Reads the weights of a role that learns."""
  reference = Reference(str(blueprint.folder), which, name)
  abstract = weights_in_stage(reference, blueprint)
  return weights.load(name, abstract, layout, step)


def conditions(
  blueprint: Blueprint,
  n: int,
  label: int | Sequence[int] | None = None,
  cond: Cond | None = None,
  *,
  null: bool = False,
) -> dict[str, np.ndarray]:
  """`cond` of n examples.

  Args:
    blueprint: of the stage.
    n: number of examples.
    label: one class for all, or n classes; None goes through all of them.
    cond: the other conditions: name -> one value for all, or n of them.
    null: whether missing conditions are unconditional; otherwise they are all
      classes in turn, and the conditions of the data set's examples.

  Raises:
    ValueError: if a condition does not exist, or has another shape.
  """
  spec, values = blueprint.sees, dict(cond or {})
  if label is not None:
    values[LABEL] = check_label(spec, label)
  if unknown := [name for name in values if name not in spec.cond]:
    raise ValueError(
      f'cond has {unknown[0]!r}: these examples are {spec}; '
      f'{suggest(unknown[0], spec.cond)}'
    )
  arrays = {name: spec.cond[name].repeat(v, n) for name, v in values.items()}
  rest = [name for name in spec.cond if name not in arrays]
  if null:
    return arrays | {name: spec.cond[name].full(n) for name in rest}
  if rest == [LABEL]:
    return arrays | spec.each_class(np.arange(n))
  if not rest:
    return arrays
  rows = blueprint.data.conditions(np.arange(n) % len(blueprint.data))
  return arrays | {name: rows[name] for name in rest}


def check_label(spec: DataSpec, label: Any) -> Any:
  """The label or labels, which must be classes of the data set."""
  classes, labels = spec.num_classes, np.asarray(label)
  if not classes:
    raise ValueError(
      f'label = {label} has no effect: this data set has no classes'
    )
  if labels.size and (labels.min() < 0 or labels.max() > classes):
    raise ValueError(
      f'label = {label} must be in 0 to {classes - 1}, or {classes} for '
      '"no class"'
    )
  return label
