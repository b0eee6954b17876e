"""A stage, abstractly: its data and its networks, from shapes alone.

A blueprint is made once per stage and process. Who checks, traces, plans,
trains, measures, samples or converts a stage takes it; nobody else binds a
stage, opens its data set or shapes its networks.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from flowdistill.build.data import Data
from flowdistill.build.learning import build_learning, salt_of
from flowdistill.build.models import Model, init_params, shape_model
from flowdistill.build.tables import ROOMS, bind_stage
from flowdistill.build.weights import Weights, frozen_role
from flowdistill.config.bind import Spec, bind, join
from flowdistill.config.sections import Network, Reference
from flowdistill.flow.spec import DataSpec
from flowdistill.training.lengths import Length
from flowdistill.training.roles import Params, Role
from flowdistill.training.state import (
  TrainState,
  gradients,
  init_state,
  make_train_step,
)

OpenData = Callable[[Spec, Callable[[], Any]], Data]
"""open_data(spec of a data set, what opens it) -> it, opened once."""
Refer = Callable[[str, Reference, str], Weights]
"""refer(role, reference, key of the config) -> the weights that it names."""


@dataclasses.dataclass(frozen=True, eq=False)
class Blueprint:
  """A stage, abstractly.

  Attributes:
    name: of the stage.
    where: its key in the config, '' for a config without stages.
    spec: its resolved config.
    stage: that with its names bound to functions.
    folder: of the stage.
    data: its examples, as pictures.
    measured: those that evaluators measure against.
    space: between pictures and what the networks see.
    sees: the spec of the examples in that space.
    learners: name -> network that is trained, the student first.
    refer: resolves references to other stages, when they are asked for.
  """

  name: str
  where: str
  spec: Spec
  stage: Any
  folder: pathlib.Path
  data: Data
  measured: Data
  space: Any
  sees: DataSpec
  learners: Mapping[str, Role]
  refer: Refer

  def key(self, key: str) -> str:
    """The full name of one of its keys in the config."""
    return join(self.where, key)

  def to_steps(self, length: Length | None) -> int:
    """A length in steps, 0 for None."""
    if length is None:
      return 0
    return self.data.to_steps(length, self.stage.train.batch_size)

  @functools.cached_property
  def total(self) -> int:
    """The length of the stage in steps."""
    return self.to_steps(self.stage.train.length)

  @property
  def learns(self) -> list[str]:
    """The names of the roles that learn, the student first."""
    return list(self.learners)

  @functools.cached_property
  def roles(self) -> dict[str, Role]:
    """Name -> network: those that learn, then those that are frozen."""
    frozen: dict[str, Role] = {}
    shared: dict[Reference, str] = {}
    for name, reference in self.stage.frozen.items():
      base = shared.setdefault(reference, name)
      frozen[name] = frozen_role(self.weights(base), base)
    return {**self.learners, **frozen}

  @property
  def drawable(self) -> list[str]:
    """The roles that samples can be drawn from."""
    return [name for name, role in self.roles.items() if role.is_drawable]

  @functools.cached_property
  def _weights(self) -> dict[str, Weights]:
    return {}

  def weights(self, name: str) -> Weights:
    """What a role's weights come from: `init_from`, or a frozen reference."""
    if name not in self._weights:
      reference, key = self.reference(name)
      self._weights[name] = self.refer(name, reference, key)
    return self._weights[name]

  def reference(self, name: str) -> tuple[Reference, str]:
    """A role's reference, and its key in the config."""
    if name in self.stage.frozen:
      key = self.key(self.stage.key_of(name))
      return self.stage.frozen[name], key
    at = f'roles.{name}.init_from' if self.learns.index(name) else 'init_from'
    return self.stage.learners[name].init_from, self.key(at)

  @property
  def frozen(self) -> dict[str, Weights]:
    """Name -> weights, of the trees that frozen roles share."""
    bases = {r.base for r in self.roles.values() if r.base is not None}
    return {n: self.weights(n) for n in self.stage.frozen if n in bases}

  @property
  def frozen_params(self) -> dict[str, Params]:
    """Name -> abstract arrays, of the trees that frozen roles share."""
    return {name: weights.params for name, weights in self.frozen.items()}

  @functools.cached_property
  def state(self) -> TrainState:
    """The train state, abstractly, as a checkpoint holds it."""
    params = {name: role.model.params for name, role in self.learners.items()}
    return jax.eval_shape(lambda p: init_state(self.learners, p), params)

  def init(self, name: str) -> Params:
    """Fresh parameters of a role that learns, a function of the seed."""
    network = self.stage.learners[name].network
    return init_params(self._make(name, network))

  def batch(self, rows: int | None = None) -> dict[str, Any]:
    """A batch, abstractly, of so many rows or whole."""
    batch = self.sees.abstract(rows or self.stage.train.batch_size)
    return batch if self.stage.pairs is None else {**batch, 'x1': batch['x0']}

  def step(self) -> Callable[..., Any]:
    """train_step(state, frozen, batch, key), not jitted."""
    train = self.stage.train
    return make_train_step(
      self.roles, drop_cond=train.drop_cond, flip=train.flip
    )

  def gradients(self, name: str) -> Callable[..., Any]:
    """f(state, frozen, batch, key): loss and gradient of a role."""

    def f(state: Any, frozen: Any, batch: Any, key: Any) -> Any:
      return gradients(name, self.roles, state, frozen, batch, key, key)

    return f

  def variant(self, name: str, **options: Any) -> Model:
    """A role's network with other values of those options that it has."""
    number = self.learns.index(name)
    owner = self.spec['roles'][name] if number else self.spec
    given = owner['network']
    changed = {k: v for k, v in options.items() if given.get(k, v) != v}
    if not changed:
      return self.learners[name].model
    key = self.key(f'roles.{name}.network' if number else 'network')
    network = bind({**given, **changed}, Network, key, ROOMS)
    return shape_model(self._make(name, network))

  def changed(self, **options: Any) -> 'Blueprint':
    """The stage with other options of the networks that have them."""
    learners = {
      name: dataclasses.replace(role, model=self.variant(name, **options))
      for name, role in self.learners.items()
    }
    return dataclasses.replace(self, learners=learners)

  def rebound(self, spec: Spec) -> 'Blueprint':
    """The stage with another config of what is not its data or networks."""
    stage = bind_stage(spec, self.where)
    return dataclasses.replace(self, spec=spec, stage=stage)

  def _make(self, name: str, network: Network) -> Callable[[], nnx.Module]:
    return maker(network, self.sees, self.stage.seed, salt_of(name))


def make_blueprint(
  name: str,
  spec: Spec,
  where: str,
  folder: pathlib.Path,
  open_data: OpenData,
  refer: Refer,
) -> Blueprint:
  """Binds a stage, and shapes its networks.

  Raises:
    ConfigError: for a value out of range, or weights that do not exist.
  """
  stage = bind_stage(spec, where)
  data = measured = open_data(spec['dataset'], stage.dataset)
  if held_out := spec.get('evaluation', {}).get('dataset'):
    measured = open_data(held_out, stage.evaluation.dataset)
  space = stage.space(data.spec.shape)
  sees = dataclasses.replace(data.spec, shape=space.shape)
  learners = {
    role: learner_role(role, stage, data, sees, where)
    for role in stage.learners
  }
  return Blueprint(
    name=name,
    where=where,
    spec=spec,
    stage=stage,
    folder=folder,
    data=data,
    measured=measured,
    space=space,
    sees=sees,
    learners=learners,
    refer=refer,
  )


def learner_role(
  name: str, stage: Any, data: Data, sees: DataSpec, where: str
) -> Role:
  """The row of a network that is trained."""
  learner = stage.learners[name]
  number = list(stage.learners).index(name)
  at = join(where, f'roles.{name}') if number else where
  model = shape_model(maker(learner.network, sees, stage.seed, salt_of(name)))
  return Role(
    model=model,
    signature=model.signature,
    weights=learner.init_from,
    learns=build_learning(name, learner, stage.train, data, at),
    every=learner.every,
  )


def maker(
  network: Network, sees: DataSpec, seed: int, salt: int
) -> Callable[[], nnx.Module]:
  """Makes a network whose parameters are a function of seed and salt."""

  def make() -> nnx.Module:
    if not salt:
      return network(sees, rngs=nnx.Rngs(seed))
    key = jax.random.fold_in(jax.random.key(seed), salt)
    return network(sees, rngs=nnx.Rngs(key))

  return make
