"""The train step: what it updates, what it never changes, what it repeats."""

import dataclasses
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowdistill.flow.noise import numbered
from flowdistill.objectives.roles import MissingRole
from flowdistill.training.ema import Ema
from flowdistill.training.roles import Learning, Role
from flowdistill.training.state import (
  draw_noise,
  drop_conditions,
  flip_images,
  init_state,
  make_train_step,
)

BATCH = {
  'x0': jnp.arange(12.0).reshape(6, 2),
  'cond': {'label': jnp.arange(6)},
  'null': {'label': jnp.full(6, 10)},
}
KEY = jax.random.key(0)


def apply(params, x_t, t, s, cond, key=None):
  """A linear network; the key, if any, shifts its output."""
  shift = 0.0 if key is None else jax.random.normal(key, x_t.shape)
  return params['w'] * x_t + params['b'] + shift


def loss(nets, batch, key, step):
  t = jnp.zeros(len(batch['x0']))
  u = nets.student(batch['x0'], t, t, batch['cond'])
  return jnp.sum(u**2, axis=1), {'first': u[:, 0]}


def network(apply=apply):
  """A model, as far as a step knows one."""
  return types.SimpleNamespace(apply=apply)


def student(loss=loss, **emas):
  """The only role; `emas` are name -> decay."""
  tracked = {name: Ema(lambda step, d=d: d) for name, d in emas.items()}
  learns = Learning(loss, optax.sgd(0.1), tracked)
  return {'student': Role(network(), learns=learns)}


def teacher():
  return {'teacher': Role(network(), signature='velocity', base='teacher')}


def params():
  return {'student': {'w': jnp.array(2.0), 'b': jnp.array(1.0)}}


def test_step_is_one_step_of_gradient_descent_on_the_mean_loss():
  def noted(nets, batch, key, step):
    t = jnp.zeros(6)
    value = nets.student(batch['x0'], t, t, {}) - mask
    return jnp.sum(value**2, axis=1), {}

  key = jax.random.fold_in(KEY, 0)
  mask = jax.random.normal(jax.random.split(key, 3)[2], (6, 2))
  step = make_train_step(student(noted))
  state = init_state(student(noted), params())
  state, metrics = step(state, {}, BATCH, KEY)
  u = 2.0 * BATCH['x0'] + 1.0
  w = 2.0 - 0.1 * jnp.mean(jnp.sum(2 * u * BATCH['x0'], axis=1))
  np.testing.assert_allclose(state.roles['student'].params['w'], w, rtol=1e-5)
  expected = jnp.mean(jnp.sum(u**2, axis=1))
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  assert int(state.step) == 1


def test_student_has_one_mask_in_a_step_and_another_in_the_next():
  def twice(nets, batch, key, step):
    t = jnp.zeros(6)
    a, b = (nets.student(batch['x0'], t, t, {}) for _ in range(2))
    return jnp.sum((a - b) ** 2, axis=1), {'mask': a[0, 0] - b[0, 0] + a[0, 0]}

  step = make_train_step(student(twice))
  state = init_state(student(twice), params())
  masks = []
  for _ in range(2):
    state, metrics = step(state, {}, BATCH, KEY)
    assert float(metrics['loss']) == 0.0
    masks.append(float(metrics['mask']))
  assert masks[0] != masks[1]


def test_only_the_student_in_training_gets_a_mask():
  def others(nets, batch, key, step):
    t = jnp.zeros(6)
    plain = 2.0 * batch['x0'] + 1.0
    gap = nets.teacher(batch['x0'], t, {}) - plain
    gap += nets.ema(batch['x0'], t, t, {}) - plain
    return jnp.sum(gap**2, axis=1), {}

  trained = student(others, main=0.0)
  step = make_train_step(trained | teacher())
  frozen = {'teacher': params()['student']}
  _, metrics = step(init_state(trained, params()), frozen, BATCH, KEY)
  assert float(metrics['loss']) == 0.0


@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf])
def test_a_step_that_is_not_finite_changes_nothing_and_nor_do_later_ones(bad):
  trained = student(main=0.5)
  step = make_train_step(trained)
  before = init_state(trained, params())
  broken = {**BATCH, 'x0': BATCH['x0'].at[3, 1].set(bad)}
  state, metrics = step(before, {}, broken, KEY)
  assert not bool(metrics['finite'])
  state, metrics = step(state, {}, BATCH, KEY)
  assert not bool(metrics['finite'])
  state = dataclasses.replace(state, finite=jnp.array(True))
  jax.tree.map(np.testing.assert_array_equal, state, before)


def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is():
  def root(nets, batch, key, step):
    t = jnp.zeros(6)
    u = nets.student(batch['x0'], t, t, {})
    return jnp.sqrt(jnp.sum((u - jax.lax.stop_gradient(u)) ** 2, axis=1)), {}

  step = make_train_step(student(root))
  _, metrics = step(init_state(student(root), params()), {}, BATCH, KEY)
  assert float(metrics['loss']) == 0.0
  assert not bool(metrics['finite'])


def test_an_image_is_turned_with_the_noise_it_is_paired_with():
  """One coin per example, about as often heads as tails, and by the key."""
  rng = np.random.default_rng(0)
  x0, x1 = rng.normal(size=(2, 400, 3, 5, 2)).astype(np.float32)
  batch = {'x0': x0, 'x1': x1, 'seed': np.arange(400), 'cond': {}, 'null': {}}
  flipped, again, other = (
    flip_images(batch, jax.random.key(k)) for k in (0, 0, 1)
  )
  turned = np.array(
    [
      np.array_equal(a, b[:, ::-1])
      for a, b in zip(flipped['x0'], x0, strict=True)
    ]
  )
  assert 150 < turned.sum() < 250
  for name, before in (('x0', x0), ('x1', x1)):
    expected = np.where(turned[:, None, None, None], before[:, :, ::-1], before)
    np.testing.assert_array_equal(flipped[name], expected)
    np.testing.assert_array_equal(again[name], expected)
  np.testing.assert_array_equal(flipped['seed'], batch['seed'])
  assert np.any(other['x0'] != flipped['x0'])


def test_a_step_turns_images_if_asked():
  seen = []

  def look(nets, batch, key, step):
    seen.append(batch['x0'])
    return jnp.zeros(6), {}

  x0 = np.arange(6 * 2 * 2, dtype=np.float32).reshape(6, 2, 2, 1)
  for flip in (False, True):
    trained = student(look)
    step = make_train_step(trained, flip=flip)
    state = init_state(trained, params())
    step(state, {}, {**BATCH, 'x0': x0}, KEY)
  np.testing.assert_array_equal(seen[0], x0)
  turned = np.any(np.asarray(seen[1]) != x0, axis=(1, 2, 3))
  assert 0 < turned.sum() < 6


def test_emas_are_updated_by_name_after_the_optimiser():
  trained = student(main=0.5, last=0.0)
  step = make_train_step(trained)
  state, _ = step(init_state(trained, params()), {}, BATCH, KEY)
  role = state.roles['student']
  mean = (role.params['w'] + 2.0) / 2
  np.testing.assert_allclose(role.emas['main']['w'], mean, rtol=1e-6)
  np.testing.assert_array_equal(role.emas['last']['w'], role.params['w'])


def test_two_roles_learn_from_the_same_old_state():
  def critic(nets, batch, key, step):
    t = jnp.zeros(6)
    other = nets.student(batch['x0'], t, t, {})
    u = nets.discriminator(batch['x0'], t, t, {})
    return jnp.sum(u * other, axis=1), {}

  learns = Learning(critic, optax.sgd(0.1), prefix='discriminator/')
  roles = student() | {'discriminator': Role(network(), learns=learns)}
  both = {**params(), 'discriminator': params()['student']}
  state = init_state(roles, both)
  new, metrics = make_train_step(roles)(state, {}, BATCH, KEY)
  reversed_roles = dict(reversed(roles.items()))
  turned, _ = make_train_step(reversed_roles)(state, {}, BATCH, KEY)
  jax.tree.map(np.testing.assert_array_equal, new, turned)
  assert 'discriminator/loss' in metrics
  w = float(new.roles['discriminator'].params['w'])
  assert w != float(state.roles['discriminator'].params['w'])


def test_a_role_with_every_learns_at_the_steps_that_are_a_multiple_of_it():
  """Between them it is the same to the byte, its optimiser and EMAs too."""
  learns = Learning(loss_of_critic, optax.adam(0.1), prefix='critic/')
  learns = dataclasses.replace(
    learns, emas={'main': Ema(lambda step: 0.5 + 0.1 * step)}
  )
  roles = student() | {'critic': Role(network(), learns=learns, every=3)}
  step = jax.jit(make_train_step(roles))
  state = init_state(roles, {**params(), 'critic': params()['student']})
  states, losses = [state], []
  for _ in range(7):
    state, metrics = step(state, {}, BATCH, KEY)
    states.append(state)
    losses.append(float(metrics['critic/loss']))
  moved = [
    float(a.roles['critic'].params['w'] - b.roles['critic'].params['w']) != 0
    for a, b in itertools.pairwise(states)
  ]
  assert moved == [False, False, True, False, False, True, False]
  assert [loss != 0 for loss in losses] == moved
  jax.tree.map(
    np.testing.assert_array_equal,
    states[3].roles['critic'],
    states[5].roles['critic'],
  )
  ema = states[6].roles['critic'].emas['main']['w']  # its second update
  before, now = (states[k].roles['critic'] for k in (5, 6))
  expected = now.params['w'] + 0.6 * (
    before.emas['main']['w'] - now.params['w']
  )
  np.testing.assert_allclose(ema, expected, rtol=1e-6)


def loss_of_critic(nets, batch, key, step):
  t = jnp.zeros(6)
  return jnp.sum(nets.critic(batch['x0'], t, t, {}) ** 2, axis=1), {}


def test_a_role_that_is_not_filled_says_which_key_to_set():
  def asks(nets, batch, key, step):
    return nets.teacher(batch['x0'], None, {}), {}

  step = make_train_step(student(asks))
  with pytest.raises(MissingRole, match=r"set 'frozen\.teacher'"):
    step(init_state(student(asks), params()), {}, BATCH, KEY)


def test_conditions_are_dropped_whole_at_the_rate():
  n = 20_000
  batch = {
    'x0': jnp.zeros((n, 2)),
    'cond': {
      'label': jnp.ones(n, int),
      'text': jnp.ones((n, 3, 2)),
      'tokens': jnp.ones((n, 3), jnp.int32),
      'mask': jnp.ones((n, 3), bool),
    },
  }
  batch['null'] = jax.tree.map(jnp.zeros_like, batch['cond'])
  cond = drop_conditions(batch, KEY, 0.1)['cond']
  share = 1 - float(jnp.mean(cond['label']))
  assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / n)
  for name, given in batch['cond'].items():
    assert cond[name].dtype == given.dtype
    kept = np.reshape(cond['label'] == 1, (n, *[1] * (given.ndim - 1)))
    np.testing.assert_array_equal(cond[name], np.where(kept, given, 0))


def test_no_condition_is_dropped_at_rate_zero():
  assert drop_conditions(BATCH, KEY, 0.0) is BATCH


def test_noise_that_is_only_named_is_drawn_before_a_step_sees_it():
  """And is that of the store; without a name nothing changes."""
  named = jnp.array([[3, 9], [3, 2]], jnp.uint32)
  batch = {'x0': jnp.zeros((2, 5)), 'noise': named, 'cond': {}, 'null': {}}
  drawn = draw_noise(batch)
  assert sorted(drawn) == ['cond', 'null', 'x0', 'x1']
  expected, _ = numbered(jax.random.key(3), named[:, 1], (5,))
  np.testing.assert_allclose(drawn['x1'], expected, atol=1e-6)
  assert draw_noise(drawn) is drawn


def test_weights_are_projected_after_each_update_before_the_emas():
  (role,) = student(main=0.5).values()
  learns = dataclasses.replace(
    role.learns,
    project=lambda new, old: jax.tree.map(lambda x, y: 0 * x + y + 5, new, old),
  )
  roles = {'student': dataclasses.replace(role, learns=learns)}
  state, _ = make_train_step(roles)(init_state(roles, params()), {}, BATCH, KEY)
  assert state.roles['student'].params == {'w': 7, 'b': 6}
  assert state.roles['student'].emas['main']['w'] == (2 + 7) / 2
