"""The networks that a stage trains: their roles, bases and initial weights."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flowdistill.build.data import Data
from flowdistill.build.learning import build_learning, salt_of, start_of
from flowdistill.build.lora import Adaptation
from flowdistill.build.models import Model
from flowdistill.config.bind import join
from flowdistill.config.protocols import Network
from flowdistill.config.sections import STUDENT, Reference
from flowdistill.flow.spec import DataSpec
from flowdistill.training.roles import AVERAGE, VELOCITY, Role


def learner_role(
  name: str, stage: Any, data: Data, where: str, model: Model
) -> Role:
  """The row of a network that is trained.

  One that answers a velocity is called as u(x_t, t, s), of which it ignores s.
  """
  learner, at = stage.learners[name], role_key(name, where)
  return Role(
    model=model,
    signature=AVERAGE if model.signature == VELOCITY else model.signature,
    weights=learner.init_from,
    learns=dataclasses.replace(
      build_learning(name, learner, stage.train, data, at),
      project=model.project,
    ),
    every=learner.every,
    start=start_of(learner, stage.train, data, at),
    base=base_of(name, stage),
  )


def role_key(name: str, where: str) -> str:
  """The key of the section of a role that learns, in a stage at `where`."""
  return where if name == STUDENT else join(where, f'roles.{name}')


def base_of(name: str, stage: Any) -> str | None:
  """The role whose frozen weights a role adapts, itself if no other has them.

  None if it is trained without LoRA.
  """
  learner = stage.learners[name]
  if learner.lora is None:
    return None
  adapted = {
    n: each.init_from for n, each in stage.learners.items() if each.lora
  }
  shared = {**stage.frozen, **adapted}
  wanted = whole_of(learner.init_from)
  return next(n for n, other in shared.items() if whole_of(other) == wanted)


def whole_of(reference: Reference) -> Reference:
  """The reference to all arrays of a network, whichever of them match."""
  return dataclasses.replace(reference, matching=False)


def adaptation(
  name: str,
  stage: Any,
  plain: Model,
  make: Callable[[], nnx.Module],
  where: str,
) -> Adaptation:
  """How low-rank factors adapt the network of a role that learns."""
  salt = salt_of(f'{name}.lora')

  def key() -> jax.Array:
    return jax.random.fold_in(jax.random.key(stage.seed), salt)

  return Adaptation(plain, make, stage.learners[name].lora, key, where)


def maker(
  name: str, network: Network, sees: DataSpec, seed: int
) -> Callable[[], nnx.Module]:
  """Makes a network whose parameters are a function of seed and role name."""

  def make() -> nnx.Module:
    if not (salt := salt_of(name)):
      return network(sees, rngs=nnx.Rngs(seed))
    key = jax.random.fold_in(jax.random.key(seed), salt)
    return network(sees, rngs=nnx.Rngs(key))

  return make
