"""The train state and the train step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flowdistill.flow.noise import drawn_again
from flowdistill.training.roles import (
  Array,
  Batch,
  Learning,
  Metrics,
  Params,
  Role,
  Rows,
  learning,
  make_nets,
)

MAIN = 'main'
Keys = tuple[Array, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoleState:
  """The state of one role: parameters, optimiser state, named EMAs."""

  params: Params
  opt_state: Any
  emas: dict[str, Params]

  @property
  def sampled(self) -> Params:
    """The weights for sampling: the EMA `main`, or `params` without EMAs."""
    return self.emas[MAIN] if self.emas else self.params

  def weights(self, which: str) -> Params:
    """Those for sampling ('ema'), 'params', or those of the EMA of a name."""
    named = {'ema': self.sampled, 'params': self.params}
    return named[which] if which in named else self.emas[which]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that training changes. All leaves are arrays.

  Attributes:
    step: number of steps, int32.
    finite: False after a step with a non-finite loss or gradient: the state is
      then frozen, so that the loop may check the flag one step later.
    roles: name -> state, of the networks that learn.
  """

  step: Array
  finite: Array
  roles: dict[str, RoleState]


def init_state(roles: Rows, params: Mapping[str, Params]) -> TrainState:
  """The state before the first step; EMAs start as copies of `params`."""
  states = {
    name: init_role(learns, params[name])
    for name, learns in learning(roles).items()
  }
  return TrainState(jnp.zeros((), jnp.int32), jnp.array(True), states)


def init_role(learns: Learning, params: Params) -> RoleState:
  """The state of one role before its first update."""
  emas = {name: ema.init(params) for name, ema in learns.emas.items()}
  return RoleState(params, learns.tx.init(params), emas)


def make_train_step(
  roles: Rows, *, drop_cond: float = 0.0, flip: bool = False
) -> Callable[
  [TrainState, Mapping[str, Params], Batch, Array], tuple[TrainState, Metrics]
]:
  """Builds `train_step(state, frozen, batch, key) -> (state, metrics)`.

  It folds the step into `key`, drops conditions, and updates every role that
  learns from the same old state. After a non-finite loss or gradient the state
  is frozen and `metrics['finite']` is 0. A role with `every` > 1 is computed
  only at multiples of it, and one with a `start` only after it; at other steps
  its metrics are 0. It is not jitted.

  Args:
    roles: name -> row, of all networks.
    drop_cond: share of examples whose `cond` becomes `null`.
    flip: whether half of the images are mirrored left to right.
  """

  def train_step(state, frozen, batch, key):
    batch, keys = prepare(state, batch, key, drop_cond, flip)
    states, metrics, finite = {}, {}, state.finite
    for name, learns in learning(roles).items():
      own = keys_of(keys, learns)
      states[name], more, fine = learn(name, roles, state, frozen, batch, own)
      metrics |= more
      finite &= fine
    new = dataclasses.replace(state, step=state.step + 1, roles=states)
    state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    state = dataclasses.replace(state, finite=finite)
    return state, metrics | {'finite': finite}

  return train_step


def learn(
  name: str,
  roles: Rows,
  state: TrainState,
  frozen: Mapping[str, Params],
  batch: Batch,
  keys: Keys,
) -> tuple[RoleState, Metrics, Array]:
  """One role's new state, its metrics, and whether all was finite.

  Between its updates the state is the old one, and nothing is computed.
  """
  role = roles[name]

  def step(own: RoleState) -> tuple[RoleState, Metrics, Array]:
    loss, grads, extra = gradients(name, roles, state, frozen, batch, *keys)
    figures = {'loss': loss, 'grad_norm': optax.tree.norm(grads), **extra}
    finite = all_finite((loss, grads))
    new = update(role, own, grads, role.updates(state.step))
    prefix = role.learns.prefix if role.learns else ''
    return new, {f'{prefix}{k}': v for k, v in figures.items()}, finite

  old = state.roles[name]
  if role.every == 1 and not role.start:
    return step(old)
  _, metrics, _ = jax.eval_shape(step, old)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
  return jax.lax.cond(
    role.is_due(state.step + 1),
    step,
    lambda own: (own, zeros, jnp.array(True)),
    old,
  )


def prepare(
  state: TrainState, batch: Batch, key: Array, drop_cond: float, flip: bool
) -> tuple[Batch, Keys]:
  """The batch of a step, and the keys of the objective and of dropout."""
  drop, objective, dropout = jax.random.split(
    jax.random.fold_in(key, state.step), 3
  )
  batch = draw_noise(batch)
  if flip:
    batch = flip_images(batch, jax.random.fold_in(drop, 1))
  return drop_conditions(batch, drop, drop_cond), (objective, dropout)


def keys_of(keys: Keys, learns: Learning) -> Keys:
  """The keys of a role from those of the step; see `Learning.salt`."""
  if not learns.salt:
    return keys
  objective, dropout = (jax.random.fold_in(key, learns.salt) for key in keys)
  return objective, dropout


def gradients(
  name: str,
  roles: Rows,
  state: TrainState,
  frozen: Mapping[str, Params],
  batch: Batch,
  key: Array,
  dropout_key: Array,
) -> tuple[Array, Params, Metrics]:
  """Mean loss, its gradient in the role's parameters, and mean metrics."""
  role = roles[name]
  learns = role.learns
  if learns is None:
    raise ValueError(f'the role {name!r} is frozen')
  # An objective counts the updates of its own role.
  always = role.every == 1 and not role.start
  counted = state.step if always else role.updates(state.step)

  def mean_loss(params):
    nets = make_nets(name, params, state, frozen, roles, dropout_key)
    loss, metrics = learns.loss(nets, batch, key, counted)
    return jnp.mean(loss), jax.tree.map(jnp.mean, metrics)

  params = state.roles[name].params
  (loss, extra), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
  return loss, grads, extra


def update(
  role: Role, state: RoleState, grads: Params, step: Array
) -> RoleState:
  """One optimiser step and its EMAs, after `step` updates of the role."""
  learns = role.learns
  if learns is None:
    return state
  updates, opt_state = learns.tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  if learns.project is not None:
    params = learns.project(params, state.params)
  emas = {
    name: ema.advance(step, state.emas[name], params)
    for name, ema in learns.emas.items()
  }
  return RoleState(params, opt_state, emas)


def drop_conditions(batch: Batch, key: Array, rate: float) -> Batch:
  """Replaces all of `cond` by `null` in a share `rate` of the examples."""
  if not rate:
    return batch
  dropped = jax.random.bernoulli(key, rate, batch['x0'].shape[:1])

  def choose(cond, null):
    shape = dropped.shape + (1,) * (cond.ndim - 1)
    return jnp.where(dropped.reshape(shape), null, cond)

  cond = jax.tree.map(choose, batch['cond'], batch['null'])
  return {**batch, 'cond': cond}


def draw_noise(batch: Batch) -> Batch:
  """Replaces `noise`, the keys of stored pairs, by the noise `x1` itself."""
  if 'noise' not in batch:
    return batch
  rest = {name: value for name, value in batch.items() if name != 'noise'}
  return {**rest, 'x1': drawn_again(batch['noise'], batch['x0'].shape[1:])}


def flip_images(batch: Batch, key: Array) -> Batch:
  """Mirrors a random half of the examples, with all images of each."""
  flipped = jax.random.bernoulli(key, shape=batch['x0'].shape[:1])

  def flip(x):
    if jnp.ndim(x) != 4:
      return x
    return jnp.where(flipped[:, None, None, None], x[:, :, ::-1], x)

  images = {k: flip(v) for k, v in batch.items() if k not in ('cond', 'null')}
  return {**batch, **images}


def all_finite(tree: Any) -> Array:
  """Whether every number in a tree is finite, as a boolean scalar."""
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
