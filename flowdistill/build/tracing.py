"""Traces the loss of a stage by shapes, and notes whom it asks for what."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.config.sections import Stage
from flowdistill.datasets.source import Source
from flowdistill.objectives.roles import Roles
from flowdistill.training.state import TrainState, make_roles


@dataclasses.dataclass(frozen=True)
class Asked:
  """What an objective does with its networks.

  Attributes:
    roles: that it asked for.
    told: the conditions that it gave the student beside those of the batch.
    read: what of the batch it read.
  """

  roles: set[str] = dataclasses.field(default_factory=set)
  read: set[str] = dataclasses.field(default_factory=set)
  told: set[str] = dataclasses.field(default_factory=set)


def trace(
  stage: Stage,
  source: Source,
  state: TrainState,
  frozen: Mapping[str, tuple[Model, Any]],
) -> Asked:
  """Runs the objective by shapes alone.

  Args:
    stage: whose objective it is.
    source: of its batches.
    state: by shapes.
    frozen: role -> network, and its weights by shapes.

  Raises:
    MissingRole: if it asks for a role that is not filled.
    ValueError: for an option out of range.
  """
  applies = {role: model.apply for role, (model, _) in frozen.items()}
  applies['student'] = build.build_model(stage, source).apply
  params = {role: weights for role, (_, weights) in frozen.items()}
  asked = Asked()

  def loss(state, params, batch):
    student = state.roles['student'].params
    key = jax.random.key(0)
    nets = make_roles('student', student, state, params, applies, key)
    watched = Watched(nets, asked, set(batch['cond']))
    return stage.objective(watched, batch, key, state.step)

  args = state, params, batch_shapes(stage, source)
  asked.read.update(arrays_read(jax.make_jaxpr(loss)(*args), args))
  return asked


def arrays_read(program: Any, args: Any) -> Iterator[str]:
  """The arrays of a batch, the last argument, that a program reads."""
  jaxpr = program.jaxpr
  used = {id(v) for step in jaxpr.eqns for v in step.invars}
  paths = [path for path, _ in jax.tree.leaves_with_path(args)]
  for path, v in zip(paths, jaxpr.invars, strict=True):
    if path[0].idx == len(args) - 1 and id(v) in used:
      yield path[1].key


class Watched(Roles):
  """Roles that note which of them were asked for, and what they were told."""

  def __init__(self, nets: Roles, asked: Asked, known: set[str]):
    super().__init__(nets)
    object.__setattr__(self, '_asked', asked)
    object.__setattr__(self, '_known', known)

  def __getattr__(self, role: str) -> Any:
    found = super().__getattr__(role)
    asked, known = self.__dict__['_asked'], self.__dict__['_known']
    asked.roles.add(role)
    if role != 'student':
      return found

    def student(x_t, t, s, cond):
      asked.told.update(set(cond) - known)
      return found(x_t, t, s, cond)

    return student


def batch_shapes(stage: Stage, source: Source) -> dict[str, Any]:
  """A batch by shapes alone."""
  size = stage.train.batch_size
  label = jax.ShapeDtypeStruct((size,), jnp.int32)
  cond = {'label': label} if source.num_classes else {}
  x = jax.ShapeDtypeStruct((size, *source.shape), jnp.float32)
  pair = {} if stage.pairs is None else {'x1': x}
  return {'x0': x, **pair, 'cond': cond, 'null': cond}
