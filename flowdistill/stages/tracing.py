"""Traces the losses of a stage, and records the inputs that they use."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.objectives.roles import Roles, View
from flowdistill.stages.check_objectives import check_answer
from flowdistill.training.roles import make_nets


@dataclasses.dataclass(frozen=True)
class Trace:
  """The inputs of an objective.

  Attributes:
    roles: roles that it calls.
    read: arrays of the batch that it reads.
    added: conditions that it passes to the role that learns, in addition to
      those of the batch.
  """

  roles: set[str] = dataclasses.field(default_factory=set)
  read: set[str] = dataclasses.field(default_factory=set)
  added: set[str] = dataclasses.field(default_factory=set)


def trace(blueprint: Blueprint, name: str) -> Trace:
  """Traces a role's objective.

  Raises:
    MissingRole: if it calls a role that the config does not define.
    ConfigError: if a role's network is not of the kind that is called.
    ValueError: for an option out of range.
  """
  trace = Trace()
  state, frozen = blueprint.state, blueprint.frozen_params
  objective = blueprint.stage.learners[name].objective

  def loss(state, frozen, batch):
    key = jax.random.key(0)
    params = state.roles[name].params
    nets = make_nets(name, params, state, frozen, blueprint.roles, key)
    watched = WatchedRoles(nets, trace, name, set(batch['cond']), blueprint)
    return objective(watched, batch, key, state.step)

  args = state, frozen, blueprint.batch()
  trace.read.update(arrays_read(jax.make_jaxpr(loss)(*args), args))
  return trace


def arrays_read(program: Any, args: Any) -> Iterator[str]:
  """The arrays of a batch, the last argument, that a jaxpr reads."""
  jaxpr = program.jaxpr
  used = {id(v) for step in jaxpr.eqns for v in step.invars}
  paths = [path for path, _ in jax.tree.leaves_with_path(args)]
  for path, v in zip(paths, jaxpr.invars, strict=True):
    if path[0].idx == len(args) - 1 and id(v) in used:
      yield path[1].key


class WatchedRoles(Roles):
  """Roles that record which of them are called, with which conditions."""

  def __init__(
    self,
    nets: Roles,
    trace: Trace,
    learns: str,
    known: set[str],
    blueprint: Blueprint,
  ):
    super().__init__(nets)
    self.__dict__.update(
      trace=trace, learns=learns, known=known, blueprint=blueprint
    )

  def __getitem__(self, role: str) -> Any:
    network = super().__getitem__(role)
    watch = self.__dict__
    check_answer(watch['blueprint'], role)
    watch['trace'].roles.add(role)
    if role != watch['learns']:
      return network

    def note(inputs: tuple[Any, ...]) -> None:
      for cond in (i for i in inputs if isinstance(i, dict)):
        watch['trace'].added.update(set(cond) - watch['known'])

    def watched(*inputs: Any) -> Any:
      note(inputs)
      return network(*inputs)

    if not isinstance(network, View):
      return watched

    def noting(f: Any) -> Any:
      def noted(params: Any, *inputs: Any) -> Any:
        note(inputs)
        return f(params, *inputs)

      return f and noted

    return dataclasses.replace(
      network, call=noting(network.call), features=noting(network.features)
    )
