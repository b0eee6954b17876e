"""A stage, abstractly: its data and its networks (jax.eval_shape).

One blueprint is made per stage and process. Checks, plans, training, sampling
and conversion all take it: nothing else binds a stage, opens its data set or
computes the shapes of its networks.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from flowdistill.build.data import Data
from flowdistill.build.learners import adaptation, learner_role, maker, role_key
from flowdistill.build.learning import answer_of
from flowdistill.build.models import Model, init_params, shape_model
from flowdistill.build.tables import ROOMS, bind_stage
from flowdistill.build.weights import Weights, frozen_role
from flowdistill.config.bind import ConfigError, Spec, bind, join, located
from flowdistill.config.protocols import Network
from flowdistill.config.sections import STUDENT, Reference
from flowdistill.flow.spec import DataSpec
from flowdistill.training.json_files import jsonable
from flowdistill.training.lengths import Length
from flowdistill.training.roles import Params, Role
from flowdistill.training.state import (
  TrainState,
  gradients,
  init_state,
  make_train_step,
)

OpenData = Callable[[Spec, Callable[[], Any]], Data]
"""open_data(spec of a data set, function that opens it) -> Data."""
Refer = Callable[[str, Reference, str], Weights]
"""refer(role, reference, key of the config) -> the weights that are named."""
Shape = Callable[[Spec, DataSpec, Callable[[], nnx.Module]], Model]
"""shape(spec of a network, that of its examples, make) -> `shape_model(make)`,
which stages with equal networks share."""


@dataclasses.dataclass(frozen=True, eq=False)
class Blueprint:
  """A stage, abstractly.

  Attributes:
    name: of the stage.
    where: its key in the config, '' for a config without stages.
    spec: its resolved config.
    stage: `spec` with its names bound to functions.
    folder: of the stage.
    data: its examples, images or their latents.
    measured: the real examples of the evaluators.
    validation: others, whose own distance from those is a unit; or None.
    space: the encoding of images for the networks.
    sees: the spec of the encoded examples.
    learners: name -> network that is trained, the student first.
    refer: resolves references to other stages, on first use.
  """

  name: str
  where: str
  spec: Spec
  stage: Any
  folder: pathlib.Path
  data: Data
  measured: Data
  validation: Data | None
  space: Any
  sees: DataSpec
  learners: Mapping[str, Role]
  refer: Refer

  def key(self, key: str) -> str:
    """The full name of one of its keys in the config."""
    return join(self.where, key)

  def learner_key(self, name: str, key: str) -> str:
    """The full name of a key of a role that learns."""
    return self.key(key if name == STUDENT else f'roles.{name}.{key}')

  def learner_spec(self, name: str) -> Spec:
    """The resolved config of a role that learns."""
    return self.spec if name == STUDENT else self.spec['roles'][name]

  @property
  def images(self) -> DataSpec:
    """The spec of the examples as images."""
    return self.data.record.images

  @functools.cached_property
  def buckets(self) -> 'list[Blueprint]':
    """The stage for batches of each bucket, the main shape first; [] without.

    Raises:
      ConfigError: if the space does not take pictures of a shape.
    """
    if self.stage.pairs is not None:
      return []
    shapes = [self.stage.space(shape).shape for shape in self.data.buckets]
    return [
      dataclasses.replace(self, sees=dataclasses.replace(self.sees, shape=s))
      for s in shapes
    ]

  def encoded(self, x0: Any) -> Any:
    """Examples of the data set [b, ...] as the networks see them."""
    return x0 if self.data.record.pictures else self.space.encode(x0)

  def to_steps(self, length: Length | None) -> int:
    """A length in steps, 0 for None."""
    if length is None:
      return 0
    return self.data.to_steps(length, self.stage.train.batch_size)

  @functools.cached_property
  def total(self) -> int:
    """The length of the stage in steps."""
    return self.to_steps(self.stage.train.length)

  @functools.cached_property
  def likeness(self) -> tuple[Any, ...]:
    """Equal for stages with the same train step, abstractly.

    They may take their first weights, those of equal frozen networks and their
    pairs from different sources.
    """
    other = (
      *('seed', 'evaluators', 'evaluation', 'checkpoint', 'log', 'hosts'),
      'ema_snapshots',
    )
    unset = dict.fromkeys(('init_from', 'resume', 'frozen', *other))
    own = {
      **self.spec,
      **unset,
      'pairs': self.stage.pairs is not None,
      'roles': {n: {**r, **unset} for n, r in self.spec['roles'].items()},
    }
    networks = [
      (name, role.base, role.model.graph, *jax.tree.leaves(role.model.complete))
      for name, role in self.roles.items()
    ]
    kept = [(n, *jax.tree.leaves(p)) for n, p in self.frozen_params.items()]
    return json.dumps(jsonable(own)), tuple(networks), tuple(kept)

  @property
  def learns(self) -> list[str]:
    """The names of the roles that learn, the student first."""
    return list(self.learners)

  @functools.cached_property
  def roles(self) -> dict[str, Role]:
    """Name -> network: those that learn, then the frozen ones."""
    frozen: dict[str, Role] = {}
    shared: dict[Reference, str] = {}
    for name, reference in self.stage.frozen.items():
      base = shared.setdefault(reference, name)
      frozen[name] = frozen_role(self.weights(base), base)
    return {**self.learners, **frozen}

  def role(self, name: str) -> Role:
    """One network; of one that learns, no reference is resolved."""
    return self.learners[name] if name in self.learners else self.roles[name]

  @property
  def drawable(self) -> list[str]:
    """The roles that samples can be drawn from."""
    return [name for name, role in self.roles.items() if role.is_drawable]

  def answers(self, name: str) -> str:
    """What a role was trained to answer: 'average', or 'velocity' alone."""
    if name in self.learners:
      return answer_of(self.learner_spec(name)['objective'])
    weights = self.weights(name)
    if weights.stage is None:
      return weights.model.signature
    return weights.stage.answers(weights.reference.role)

  def guides_of(self, name: str) -> dict[str, str]:
    """The other roles, which guidance of a role may lead away from.

    With what each of them answers.
    """
    others = [other for other in self.drawable if other != name]
    return {other: self.answers(other) for other in others}

  @functools.cached_property
  def _weights(self) -> dict[str, Weights]:
    return {}

  def weights(self, name: str) -> Weights:
    """The weights of `init_from`, or of a frozen role's reference."""
    if name not in self._weights:
      reference, key = self.reference(name)
      self._weights[name] = self.refer(name, reference, key)
    return self._weights[name]

  def reference(self, name: str) -> tuple[Reference, str]:
    """A role's reference, and its key in the config."""
    if name in self.stage.frozen:
      key = self.key(self.stage.key_of(name))
      return self.stage.frozen[name], key
    key = self.learner_key(name, 'init_from')
    return self.stage.learners[name].init_from, key

  def grid(self, name: str) -> Any:
    """The time grid of samples of a role, of the stage that trained it."""
    owner = self if name in self.learners else self.weights(name).stage
    grid = None if owner is None else owner.stage.evaluation.grid
    return 'uniform' if grid is None else grid

  @property
  def frozen(self) -> dict[str, Weights]:
    """Name -> weights, one entry for the roles that share a tree.

    It has the name of the first of them, frozen roles before those that learn.
    """
    bases = {r.base for r in self.roles.values() if r.base is not None}
    names = [*self.stage.frozen, *self.learners]
    return {name: self.weights(name) for name in names if name in bases}

  @property
  def frozen_params(self) -> dict[str, Params]:
    """Name -> abstract arrays of `frozen`."""
    return {name: weights.params for name, weights in self.frozen.items()}

  @functools.cached_property
  def state(self) -> TrainState:
    """The train state, abstractly, as it is saved in a checkpoint."""
    params = {name: role.model.params for name, role in self.learners.items()}
    return jax.eval_shape(lambda p: init_state(self.learners, p), params)

  def init(self, name: str) -> Params:
    """Fresh parameters of a role that learns, a function of the seed."""
    learner, model = self.stage.learners[name], self.learners[name].model
    make = maker(name, learner.network, self.sees, self.stage.seed)
    if model.plain is None:
      return init_params(make)
    where = self.learner_key(name, 'lora')
    return adaptation(name, self.stage, model.plain, make, where).init()

  def batch(self, rows: int | None = None) -> dict[str, Any]:
    """A batch, abstractly, of `rows` examples or of `train.batch_size`."""
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
    """A role's network with changed values of the options that it has."""
    spec, model = self.learner_spec(name)['network'], self.learners[name].model
    changed = {k: v for k, v in options.items() if spec.get(k, v) != v}
    if not changed:
      return model
    key = self.learner_key(name, 'network')
    network = bind({**spec, **changed}, Network, key, ROOMS)
    make = maker(name, network, self.sees, self.stage.seed)
    plain = shape_model(make)
    if model.plain is None:
      return plain
    where = self.learner_key(name, 'lora')
    return adaptation(name, self.stage, plain, make, where).model()

  def plain(self, name: str, **options: Any) -> Model:
    """`variant`, without the low-rank factors that adapt it."""
    model = self.variant(name, **options)
    return model.plain or model

  def changed(self, **options: Any) -> 'Blueprint':
    """The stage with changed options of the networks that have them."""
    learners = {
      name: dataclasses.replace(role, model=self.variant(name, **options))
      for name, role in self.learners.items()
    }
    return dataclasses.replace(self, learners=learners)

  def rebound(self, spec: Spec) -> 'Blueprint':
    """The stage with a config that differs only outside data and networks."""
    stage = bind_stage(spec, self.where)
    return dataclasses.replace(self, spec=spec, stage=stage)


def make_blueprint(
  name: str,
  spec: Spec,
  where: str,
  folder: pathlib.Path,
  open_data: OpenData,
  refer: Refer,
  shape: Shape,
) -> Blueprint:
  """Binds a stage, and computes the shapes of its networks.

  Raises:
    ConfigError: for a value out of range, or weights that do not exist.
  """
  stage = bind_stage(spec, where)
  data = open_data(spec['dataset'], stage.dataset)

  space = stage.space(data.record.images.shape)
  sees = dataclasses.replace(data.spec, shape=space.shape)

  def other(key: str) -> Data | None:
    held_out = spec.get('evaluation', {}).get(key)
    if held_out is None:
      return None
    found = open_data(held_out, getattr(stage.evaluation, key))
    if found.record.pictures is not None:
      raise ConfigError(
        f'config.{join(where, f"evaluation.{key}")} must have images, and '
        'these are latents'
      )
    with located(join(where, f'evaluation.{key}'), ['text']):
      return found.encoded_as(data)

  def model_of(role: str) -> Model:
    own = spec if role == STUDENT else spec['roles'][role]
    learner, at = stage.learners[role], role_key(role, where)
    make = maker(role, learner.network, sees, stage.seed)
    plain = shape(own['network'], sees, make)
    if learner.lora is None:
      return plain
    return adaptation(role, stage, plain, make, join(at, 'lora')).model()

  learners = {
    role: learner_role(role, stage, data, where, model_of(role))
    for role in stage.learners
  }
  return Blueprint(
    name=name,
    where=where,
    spec=spec,
    stage=stage,
    folder=folder,
    data=data,
    measured=other('dataset') or data.decoded(space.decode),
    validation=other('validation'),
    space=space,
    sees=sees,
    learners=learners,
    refer=refer,
  )
