"""The networks of a training step, one row each, as objectives call them.

Objectives receive callables that close over the parameters and the dropout key:
one key per step for the network that learns, so that all its calls have the
same mask, and none for the others.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from flowdistill.flow.transport import velocity_of
from flowdistill.objectives.roles import Roles, View
from flowdistill.training.ema import Ema

Array = jax.Array
Params = Any
Batch = Mapping[str, Any]
Metrics = dict[str, Array]
Apply = Callable[..., Array]
"""apply(params, x_t, t, s, cond, key=None) -> [b, ...] of a network whose
signature is 'average'; of another, apply(params, *inputs, key=None)."""
AVERAGE, VELOCITY = 'average', 'velocity'
DRAWABLE = (AVERAGE, VELOCITY)  # signatures of networks that can be sampled


@dataclasses.dataclass(frozen=True)
class Learning:
  """How a role learns: its loss, its optimiser, its EMAs by name.

  Attributes:
    loss: an objective with its options bound.
    tx: the optimiser.
    emas: name -> how these EMA weights are tracked.
    ema_role: the name by which objectives call its EMA `main`.
    prefix: of its metrics.
    salt: folded into the keys of a step; 0 leaves them as they are.
    project: (params after an update, before it) -> params; None leaves them.
  """

  loss: Callable[[Roles, Batch, Array, Array], tuple[Array, Metrics]]
  tx: optax.GradientTransformation
  emas: Mapping[str, Ema] = dataclasses.field(default_factory=dict)
  ema_role: str = 'ema'
  prefix: str = ''
  salt: int = 0
  project: Callable[[Params, Params], Params] | None = None


@dataclasses.dataclass(frozen=True)
class Role:
  """One network.

  Attributes:
    model: the network, abstractly: `apply`, `params`, `scalars`.
    signature: what objectives call: 'average' is u(x_t, t, s, cond),
      'velocity' v(x_t, t, cond); 'distance', 'logits' and 'features' have the
      network's own inputs and outputs.
    weights: reference to the first weights; None is a fresh initialisation.
    learns: None for a network that is frozen.
    every: steps from one update to the next; the first is step `every`.
    start: steps before it begins to learn; then the first is `start + every`.
    base: name of the frozen tree of its parameters, or, if it learns, of those
      that they adapt (LoRA); None if it has no frozen ones.
  """

  model: Any
  signature: str = AVERAGE
  weights: Any = None
  learns: Learning | None = None
  every: int = 1
  start: int = 0
  base: str | None = None

  def is_due(self, step: Any) -> Any:
    """Whether it is updated in step 1, 2, ..., a number or an array."""
    due = (step - self.start) % self.every == 0
    return due & (step > self.start) if self.start else due

  def updates(self, step: Any) -> Any:
    """How often it was updated within `step` steps."""
    if self.start:
      step = (step - self.start) * (step > self.start)
    return step // self.every

  @property
  def is_drawable(self) -> bool:
    """Whether samples can be drawn from it."""
    return self.signature in DRAWABLE

  def whole(self, params: Params, frozen: Mapping[str, Params]) -> Params:
    """All parameters, of those that learn: with those that they adapt."""
    if self.base is None or self.learns is None:
      return params
    return self.model.whole(params, frozen[self.base])

  def view(self, params: Params, key: Array | None = None) -> Any:
    """The callable for objectives, with the given parameters."""
    apply = functools.partial(self.model.apply, params, key=key)
    if self.signature == AVERAGE:
      return lambda x_t, t, s, cond: apply(x_t, t, s, cond)
    if self.signature == VELOCITY:
      return velocity_of(lambda x_t, t, s, cond: apply(x_t, t, s, cond))
    return apply if key is not None else functools.partial(apply.func, params)


Rows = Mapping[str, Role]
"""Name of a role -> its row; the first is sampled by default."""


def learning(roles: Rows) -> dict[str, Learning]:
  """The roles that learn, in order."""
  return {n: role.learns for n, role in roles.items() if role.learns}


def make_nets(
  learns: str,
  params: Params,
  state: Any,
  frozen: Mapping[str, Params],
  roles: Rows,
  key: Array,
) -> Roles:
  """The callables for the objective of the role `learns`.

  Args:
    learns: name of the role.
    params: its parameters, of which the gradient is taken.
    state: the `TrainState`, with the parameters of all roles that learn.
    frozen: name of a tree -> weights, see `Role.base`.
    roles: all rows.
    key: for dropout in that role.
  """
  nets: dict[str, Any] = {}
  for name, role in roles.items():
    if role.learns is None:
      nets[name] = role.view(frozen[role.base or name])
      continue
    own = state.roles[name]
    nets[name] = role.view(role.whole(own.params, frozen))
    if role.start:
      started = state.step >= role.start
      call = functools.partial(called, role, frozen)
      nets[name] = View(call, own.params, role.signature, started)
    if own.emas:
      nets[role.learns.ema_role] = role.view(role.whole(own.sampled, frozen))
  row = roles[learns]
  call = functools.partial(called, row, frozen, key=key)
  features = functools.partial(aligned, row, frozen, key=key)
  nets[learns] = View(call, params, row.signature, features=features)
  return Roles(nets)


def called(
  role: Role,
  frozen: Mapping[str, Params],
  params: Params,
  *inputs: Any,
  key: Array | None = None,
) -> Any:
  """The answer of a network at given parameters, those that learn."""
  return role.view(role.whole(params, frozen), key)(*inputs)


def aligned(
  role: Role,
  frozen: Mapping[str, Params],
  params: Params,
  *inputs: Any,
  key: Array | None = None,
) -> Any:
  """As `called`, and the features of a hidden layer."""
  return role.model.aligned(role.whole(params, frozen), *inputs, key=key)
