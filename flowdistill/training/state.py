"""The train state and the train step.

Networks enter as an `Apply`: a pure function of parameters and inputs. What an
objective sees of them are callables with the dropout key closed over: one key
per step, the same mask for every call of the student, none for the others.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flowdistill.flow.noise import drawn_again
from flowdistill.flow.transport import velocity_of
from flowdistill.objectives.roles import PERCEPTUAL, Roles
from flowdistill.training.ema import init_ema

Array = jax.Array
Params = Any
Batch = Mapping[str, Any]
Metrics = dict[str, Array]
Apply = Callable[..., Array]
"""apply(params, x_t, t, s, cond, key=None) -> [b, ...], average velocity.

Of the role `perceptual` it is apply(params, x, y, resize) -> distances [b]."""
MAIN = 'main'


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoleState:
  """What one trained network is: parameters, optimiser state, named EMAs."""

  params: Params
  opt_state: Any
  emas: dict[str, Params]

  @property
  def sampled(self) -> Params:
    """The weights to draw with: the EMA `main`, or `params` without EMAs."""
    return self.emas[MAIN] if self.emas else self.params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that training changes. All leaves are arrays.

  Attributes:
    step: steps made, int32.
    finite: False once a loss or a gradient was not finite; from then on a step
      changes nothing, so that the loop may look at it a step late.
    roles: of the networks that learn.
  """

  step: Array
  finite: Array
  roles: dict[str, RoleState]


@dataclasses.dataclass(frozen=True)
class Trained:
  """How one role learns: its loss, its optimiser, its EMAs by name.

  `emas[name](step, ema, params)` is the EMA after the step that comes after
  `step` others, `dtypes[name]` what it is kept in, float32 if not said.
  """

  role: str
  loss: Callable[[Roles, Batch, Array, Array], tuple[Array, Metrics]]
  tx: optax.GradientTransformation
  emas: Mapping[str, Callable[[Array, Params, Params], Params]]
  dtypes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def init_state(
  trained: Sequence[Trained], params: Mapping[str, Params]
) -> TrainState:
  """The state before the first step; EMAs start as copies of `params`."""
  roles = {
    t.role: RoleState(
      params[t.role],
      t.tx.init(params[t.role]),
      {
        name: init_ema(params[t.role], t.dtypes.get(name, 'float32'))
        for name in t.emas
      },
    )
    for t in trained
  }
  return TrainState(jnp.zeros((), jnp.int32), jnp.array(True), roles)


def make_train_step(
  trained: Sequence[Trained],
  applies: Mapping[str, Apply],
  *,
  drop_cond: float = 0.0,
  flip: bool = False,
) -> Callable[
  [TrainState, Mapping[str, Params], Batch, Array], tuple[TrainState, Metrics]
]:
  """Builds `train_step(state, frozen, batch, key) -> (state, metrics)`.

  It folds the step into `key`, drops conditions, and updates every trained
  role from the same old state. Where a loss or a gradient is not finite, the
  state stays as it was and `metrics['finite']` is 0. It is not jitted.

  Args:
    trained: the roles that learn.
    applies: role -> apply, of all roles, trained and frozen.
    drop_cond: share of examples whose `cond` becomes `null`.
    flip: whether every other image is turned left to right.
  """

  def train_step(state, frozen, batch, key):
    batch, keys = prepare(state, batch, key, drop_cond, flip)
    grads, metrics, finite = {}, {}, state.finite
    for t in trained:
      loss, grads[t.role], extra = gradients(
        t, state, frozen, applies, batch, *keys
      )
      finite &= all_finite((loss, grads[t.role]))
      norm = optax.tree.norm(grads[t.role])
      own = {'loss': loss, 'grad_norm': norm, **extra}
      prefix = '' if t.role == 'student' else f'{t.role}/'
      metrics |= {f'{prefix}{name}': value for name, value in own.items()}
    new = update_all(trained, state, grads)
    state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    state = dataclasses.replace(state, finite=finite)
    return state, metrics | {'finite': finite}

  return train_step


def prepare(
  state: TrainState, batch: Batch, key: Array, drop_cond: float, flip: bool
) -> tuple[Batch, tuple[Array, Array]]:
  """The prelude of a step: its batch, and the objective's and dropout's key."""
  drop, objective, dropout = jax.random.split(
    jax.random.fold_in(key, state.step), 3
  )
  batch = draw_noise(batch)
  if flip:
    batch = flip_images(batch, jax.random.fold_in(drop, 1))
  return drop_conditions(batch, drop, drop_cond), (objective, dropout)


def gradients(
  trained: Trained,
  state: TrainState,
  frozen: Mapping[str, Params],
  applies: Mapping[str, Apply],
  batch: Batch,
  key: Array,
  dropout_key: Array,
) -> tuple[Array, Params, Metrics]:
  """Mean loss, its gradient by the role's parameters, and mean metrics."""

  def mean_loss(params):
    nets = make_roles(trained.role, params, state, frozen, applies, dropout_key)
    loss, metrics = trained.loss(nets, batch, key, state.step)
    return jnp.mean(loss), jax.tree.map(jnp.mean, metrics)

  params = state.roles[trained.role].params
  (loss, extra), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
  return loss, grads, extra


def make_roles(
  learning: str,
  params: Params,
  state: TrainState,
  frozen: Mapping[str, Params],
  applies: Mapping[str, Apply],
  key: Array,
) -> Roles:
  """The callables an objective sees while the role `learning` learns."""

  def average(role, params, key=None):
    apply = functools.partial(applies[role], params, key=key)
    return lambda x_t, t, s, cond: apply(x_t, t, s, cond)

  def still(role, params):
    if role == PERCEPTUAL:
      return functools.partial(applies[role], params)
    return velocity_of(average(role, params))

  nets = {role: still(role, p) for role, p in frozen.items()}
  nets |= {role: average(role, s.params) for role, s in state.roles.items()}
  nets[learning] = average(learning, params, key)
  if state.roles['student'].emas:
    nets['ema'] = average('student', state.roles['student'].sampled)
  return Roles(nets)


def update_all(
  trained: Sequence[Trained], state: TrainState, grads: Mapping[str, Params]
) -> TrainState:
  """The state after a step of every role."""
  roles = {
    t.role: update(t, state.roles[t.role], grads[t.role], state.step)
    for t in trained
  }
  return dataclasses.replace(state, step=state.step + 1, roles=roles)


def update(
  trained: Trained, state: RoleState, grads: Params, step: Array
) -> RoleState:
  """One optimiser step, and every EMA after it."""
  updates, opt_state = trained.tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  emas = {
    name: update_ema(step, state.emas[name], params)
    for name, update_ema in trained.emas.items()
  }
  return RoleState(params, opt_state, emas)


def drop_conditions(batch: Batch, key: Array, rate: float) -> Batch:
  """Replaces `cond` by `null` in a share `rate` of the examples, whole."""
  if not rate:
    return batch
  dropped = jax.random.bernoulli(key, rate, batch['x0'].shape[:1])

  def choose(cond, null):
    shape = dropped.shape + (1,) * (cond.ndim - 1)
    return jnp.where(dropped.reshape(shape), null, cond)

  cond = jax.tree.map(choose, batch['cond'], batch['null'])
  return {**batch, 'cond': cond}


def draw_noise(batch: Batch) -> Batch:
  """`x1` in the place of the `noise` that says which it is, if a batch does."""
  if 'noise' not in batch:
    return batch
  rest = {name: value for name, value in batch.items() if name != 'noise'}
  return {**rest, 'x1': drawn_again(batch['noise'], batch['x0'].shape[1:])}


def flip_images(batch: Batch, key: Array) -> Batch:
  """Turns half of the examples left to right, all images of one or none."""
  turned = jax.random.bernoulli(key, shape=batch['x0'].shape[:1])

  def turn(x):
    if jnp.ndim(x) != 4:
      return x
    return jnp.where(turned[:, None, None, None], x[:, :, ::-1], x)

  images = {k: turn(v) for k, v in batch.items() if k not in ('cond', 'null')}
  return {**batch, **images}


def all_finite(tree: Any) -> Array:
  """Whether every number in a tree is finite, as a boolean scalar."""
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
