"""TwinFlow, kind by kind, and its options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.recursions import (
  batch,
  noted,
  of_label,
  only,
  residual,
  wavy,
)

from flowdistill.flow.losses import barron, mean_square
from flowdistill.flow.times import fixed
from flowdistill.flow.weighting import uniform
from flowdistill.objectives.branches import Kinds
from flowdistill.objectives.roles import MissingRole, Roles
from flowdistill.objectives.twinflow import twinflow

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
PLAIN = {'clip': None, 'matching_clip': None, 'loss': 'l2', 'weight': uniform}
EVERY = Kinds(one=1.0)
IDLE = {'matching': 0.0}


# --- Every kind by its formula ------------------------------------------------


@pytest.mark.parametrize('ends_too', [False, True])
@pytest.mark.parametrize('order', [1, 2])
def test_every_kind_is_learnt_by_its_own_formula(order, ends_too):
  """All that was drawn is derived from the inputs of the student."""
  asked, data, ratio = [], batch(), 0.7
  nets = Roles(student=noted(wavy, asked), teacher=of_label)
  loss, metrics = twinflow(
    nets,
    data,
    KEY,
    0,
    kinds=Kinds(e2e=2.0, one=1.0),
    order=order,
    weight=lambda t, s: 1 + t + 10 * s,
    target='frozen',
    enhanced_ratio=ratio,
    enhanced_range=(0.0, 1.1 if ends_too else 1.0),
    matching=0.75,
    loss='l2',
    clip=None,
    matching_clip=0.5,
  )
  (z, one, zero, _), (x, t, s, _), (x_twin, *twin, _), (x_real, *real, _) = (
    asked
  )
  adv, ends = t < 0, (t == 1) & (s == 0)
  assert adv.any() and ends.any() and (~adv & ~ends).any()
  np.testing.assert_array_equal(t[adv], s[adv])
  assert (one == 1).all() and (zero == 0).all()
  # Where an example comes from, adv from the one-step samples.
  own = z - wavy(z, one, zero)
  x0 = jnp.where(adv[:, None], own, data['x0'])
  time = jnp.abs(t)[:, None]
  v = (x - x0) / time  # x1 − x0
  np.testing.assert_allclose(jnp.std(v + x0), 1, rtol=0.1)  # x1 is noise
  enhanced = ~adv if ends_too else ~adv & ~ends
  gain = of_label(x, t, data['cond']) - of_label(x, t, data['null'])
  v = v + jnp.where(enhanced[:, None], ratio * gain, 0)
  # What each regresses on.
  F = wavy(x, t, s)
  g = residual(wavy, F, v, x, jnp.abs(t), jnp.abs(s), order)
  g = jnp.where((adv | (t - s < 0.01))[:, None], F - v, g)
  expected = jnp.where(adv, 1, 1 + t + 10 * s) * mean_square(g)
  np.testing.assert_array_equal(x_twin, x_real)
  for a, b in zip(twin, real, strict=True):
    np.testing.assert_array_equal(a, -b)
  np.testing.assert_array_equal(*real)
  gap = jnp.clip(wavy(x_twin, *twin) - wavy(x_real, *real), -0.5, 0.5)
  share = 2 / 6
  rectify = jnp.where(ends, 0.75 / share * mean_square(gap), 0)
  np.testing.assert_allclose(loss, expected + rectify, rtol=1e-7)
  terms = {
    'base': jnp.where(adv, 0, expected),
    'adv': jnp.where(adv, expected, 0),
    'rectify': rectify,
  }
  assert set(metrics) == set(terms)
  for name, term in terms.items():
    np.testing.assert_allclose(metrics[name], term.mean(), rtol=1e-7)


@pytest.mark.parametrize('kinds', [only(mul=1.0), only(mul=1.0, adv=3.0)])
def test_of_order_zero_it_is_flow_matching(kinds):
  asked, data = [], batch()
  options = {'order': 0, 'matching': 0.0, 'consistency_ratio': 0.0}
  loss, _ = twinflow(
    Roles(student=noted(wavy, asked)),
    data,
    KEY,
    0,
    kinds=kinds,
    **options,
    **PLAIN,
  )
  x, t, s, _ = asked[-1]
  np.testing.assert_array_equal(t, s)
  x0 = data['x0']
  if kinds.adv:
    z, one, zero, _ = asked[0]
    x0 = jnp.where(t[:, None] < 0, z - wavy(z, one, zero), x0)
  v = (x - x0) / jnp.abs(t)[:, None]
  np.testing.assert_allclose(loss, mean_square(wavy(x, t, t) - v), rtol=1e-9)


def test_of_order_zero_the_mean_is_over_mul_and_adv():
  """e2e is there for the matching, and learns nothing else."""
  asked = []
  loss, metrics = twinflow(
    Roles(student=noted(wavy, asked)),
    batch(),
    KEY,
    0,
    kinds=Kinds(any=0.0),
    order=0,
    **PLAIN,
  )
  (z, one, zero, _), (x, t, s, _), (x_twin, *twin, _), (_, *real, _) = asked
  ends, adv = (t == 1) & (s == 0), t < 0
  x0 = jnp.where(adv[:, None], z - wavy(z, one, zero), batch()['x0'])
  v = (x - x0) / jnp.abs(t)[:, None]
  flow = jnp.where(ends, 0, mean_square(wavy(x, t, s) - v)) / (2 / 3)
  gap = wavy(x_twin, *twin) - wavy(x_twin, *real)
  rectify = jnp.where(ends, 0.5 / (1 / 3) * mean_square(gap), 0)
  np.testing.assert_allclose(loss, flow + rectify, rtol=1e-8)
  np.testing.assert_allclose(
    sum(metrics.values()), jnp.mean(flow + rectify), rtol=1e-8
  )


@pytest.mark.parametrize('loss', ['l2', 'barron'])
def test_the_gradient_goes_through_the_one_call_alone(loss):
  """Not through samples, targets, jumps or the matching: F = a w."""
  asked, data, c = [], batch(), 0.3

  def student(a):
    return lambda *args: a * wavy(*args)

  def losses(a, student=student):
    options = {**PLAIN, 'loss': loss, 'c': c}
    return twinflow(Roles(student=student(a)), data, KEY, 0, **options)[0]

  losses(1.3, lambda a: noted(student(a), asked))
  (z, one, zero, _), (x, t, s, _), (x_twin, *twin, _), (_, *real, _) = asked
  adv, ends, u = t < 0, (t == 1) & (s == 0), student(1.3)
  x0 = jnp.where(adv[:, None], z - u(z, one, zero), data['x0'])
  v = (x - x0) / jnp.abs(t)[:, None]
  F = u(x, t, s)
  g = residual(u, F, v, x, jnp.abs(t), jnp.abs(s), 2)
  g = jnp.where((adv | (t - s < 0.01))[:, None], F - v, g)
  gap = u(x_twin, *twin) - u(x_twin, *real)

  def slope(g):
    norm = 1 if loss == 'l2' else jnp.sqrt(mean_square(g) + c**2)
    return jnp.mean(2 * g * wavy(x, t, s), axis=1) / norm

  expected = slope(g) + jnp.where(ends, 0.5 / 0.25 * slope(gap), 0)
  actual = jax.jit(jax.jacfwd(losses))(1.3)
  np.testing.assert_allclose(actual, expected, rtol=1e-7)


def test_no_teacher_gets_a_gradient():
  def loss(scale):
    nets = Roles(
      student=wavy,
      ema=lambda *a: scale * wavy(*a),
      teacher=lambda *a: scale * of_label(*a),
    )
    options = {'enhanced_ratio': 0.8, 'distil': True}
    return sum(
      jnp.sum(twinflow(nets, batch(), KEY, 0, target=target, **options)[0])
      for target in ('ema', 'frozen')
    )

  step = jax.jit(jax.value_and_grad(loss))
  assert step(1.0)[0] != step(1.1)[0]
  assert step(1.0)[1] == 0


# --- Options ------------------------------------------------------------------

CALLS = {
  'twinflow': ({}, 1 + 1 + 1 + 2, 0, 0),  # own samples, F, a loop, matching
  'order 0': ({'order': 0, 'kinds': Kinds(any=0.0)}, 4, 0, 0),
  'no matching': ({'matching': 0.0}, 3, 0, 0),
  'no adv': ({'matching': 0.0, 'kinds': Kinds(adv=0.0)}, 2, 0, 0),
  'flow matching': (
    {'order': 0, 'matching': 0.0, 'kinds': only(mul=1.0)},
    1,
    0,
    0,
  ),
  'enhanced': ({'enhanced_ratio': 0.8}, 7, 0, 0),
  'by an average': ({'enhanced_ratio': 0.8, 'target': 'ema'}, 4, 3, 0),
  'by a teacher': ({'enhanced_ratio': 0.8, 'target': 'frozen'}, 5, 0, 2),
  'distilled': ({'distil': True}, 5, 0, 1),
  'distilled by the same teacher': (
    {'distil': True, 'enhanced_ratio': 0.8, 'target': 'frozen'},
    5,
    0,
    2,
  ),
  'data-free': (
    {'data_free': True, 'enhanced_ratio': 4.0, 'target': 'frozen'},
    5,
    0,
    2,
  ),
}


@pytest.mark.parametrize('case', CALLS)
def test_what_has_no_weight_asks_no_network(case):
  """Calls of the student, the average and the teacher, the loop's as one."""
  options, *expected = CALLS[case]
  asked = dict.fromkeys(('student', 'ema', 'teacher'), 0)

  def counted(role, network):
    def call(*args):
      asked[role] += 1
      return network(*args)

    return call

  networks = {'student': wavy, 'ema': wavy, 'teacher': of_label}
  nets = Roles({role: counted(role, f) for role, f in networks.items()})
  jax.eval_shape(lambda: twinflow(nets, batch(), KEY, 0, **options))
  assert list(asked.values()) == expected


def test_a_batch_of_one_is_enough():
  """In float32, whatever its kind, the loss and its gradient are finite."""
  data = jax.tree.map(lambda x: x[:1].astype(jnp.float32), batch())
  seen = []

  def loss(a, key):
    def student(x, t, s, cond):
      assert (x.dtype, t.dtype, s.dtype) == (jnp.float32,) * 3
      return a * wavy(x, t, s)

    losses, metrics = twinflow(
      Roles(student=student), data, key, 0, kinds=EVERY
    )
    assert losses.shape == (1,) and losses.dtype == jnp.float32
    return losses[0], metrics

  with jax.enable_x64(False):
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for key in jax.random.split(KEY, 30):
      (value, metrics), slope = step(jnp.float32(0.7), key)
      assert np.isfinite(value) and np.isfinite(slope) and value > 0
      seen.append(tuple(name for name, term in metrics.items() if term))
  assert set(seen) == {('base',), ('adv',), ('base', 'rectify')}


def test_the_loss_and_its_constant():
  run = functools.partial(
    twinflow, Roles(student=wavy), batch(), KEY, 0, matching=0.0, weight=uniform
  )
  plain = run(loss='l2')[0]
  for c in (1e-3, 0.5):
    robust = run(loss='barron', c=c)[0]
    np.testing.assert_allclose(robust, barron(plain, c=c), rtol=1e-12)
  np.testing.assert_array_equal(run()[0], run(loss='barron', c=1e-3)[0])


def test_a_clip_bounds_the_residual_but_not_the_twins():
  run = functools.partial(
    twinflow, Roles(student=wavy), batch(), KEY, 0, matching=0.0
  )
  options = {'loss': 'l2', 'weight': uniform}
  off, one, small = (run(clip=clip, **options)[1] for clip in (None, 1.0, 0.1))
  assert off['base'] > one['base'] > small['base']
  assert small['base'] <= 0.1**2
  assert off['adv'] == one['adv'] == small['adv'] > 0
  np.testing.assert_array_equal(run(**options)[1]['base'], one['base'])


@pytest.mark.parametrize('time', [0.0, 0.3, 1.0])
def test_the_matching_is_at_the_samples_of_one_step_with_noise(time):
  """x' = (1 − t') (x1 − F) + t' z; its law of times is an option."""
  asked = []
  nets = Roles(student=noted(wavy, asked))
  law = functools.partial(fixed, t=time)
  twinflow(nets, batch(), KEY, 0, matching_times=law)
  _, (x, t, s, _), (x_twin, t_twin, *_), (_, t_real, *_) = asked
  np.testing.assert_array_equal(t_twin, -jnp.float32(time))
  np.testing.assert_array_equal(t_real, jnp.float32(time))
  rest = x_twin - (1 - jnp.float32(time)) * (x - wavy(x, t, s))
  rest = rest[(t == 1) & (s == 0)]
  assert float(rest.std()) == pytest.approx(time, rel=0.3, abs=1e-12)
  assert rest.size > 30


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'order': -1}, 'order = -1 must be at least 0'),
    (
      {'consistency_ratio': 1.1},
      r'consistency_ratio = 1.1 must lie in \[0, 1\]',
    ),
    ({'multi_gap': -0.1}, r'multi_gap = -0.1 must lie in \[0, 1\]'),
    ({'matching': -1.0}, 'matching = -1.0 must be at least 0'),
    ({'matching_clip': 0.0}, 'matching_clip = 0.0 must be above 0, or None'),
    ({'kinds': Kinds(e2e=0.0)}, 'matching = 0.5 must be 0 unless e2e and adv'),
    ({'kinds': Kinds(adv=0.0)}, 'matching = 0.5 must be 0 unless e2e and adv'),
    ({'consistency_ratio': 0.9}, 'matching = 0.5 must be 0 unless'),
    (
      {**IDLE, 'consistency_ratio': 0.0},
      'order = 2 must be 0 with consistency',
    ),
    ({**IDLE, 'kinds': only(mul=1.0, adv=1.0)}, 'order = 2 must be 0 with'),
    ({'order': 0}, 'order = 0 must be at least 1 for e2e, any and one'),
    (
      {**IDLE, 'order': 0, 'kinds': Kinds(any=0.0)},
      'order = 0 must be at least',
    ),
    (
      {'order': 0, 'kinds': only(mul=1.0, one=1.0), **IDLE},
      'order = 0 must be at least 1',
    ),
    (
      {**IDLE, 'kinds': only(e2e=1.0, adv=1.0), 'enhanced_ratio': 0.8},
      'enhanced_ratio = 0.8 must be 0 here',
    ),
    (
      {'target': 'ema', 'order': 0, 'kinds': Kinds(any=0.0)},
      "target = 'ema'",
    ),
    (
      {'target': 'frozen'},
      "target = 'frozen' must go with an enhanced_ratio",
    ),
    (
      {'data_free': True, 'enhanced_ratio': 4.0},
      "data_free = True must go with target = 'frozen', and it is 'student'",
    ),
  ],
)
def test_an_option_out_of_range_or_without_effect_is_named(options, message):
  nets = Roles(student=wavy, ema=wavy, teacher=of_label)
  with pytest.raises(ValueError, match=f'^{message}'):
    twinflow(nets, batch(), KEY, 0, **options)


def test_ends_alone_are_enhanced_in_a_wider_range():
  nets = Roles(student=wavy)
  options = {**IDLE, 'kinds': only(e2e=1.0), 'enhanced_ratio': 0.8}
  loss, _ = twinflow(
    nets, batch(), KEY, 0, enhanced_range=(0.0, 1.1), **options
  )
  assert np.isfinite(loss).all()


@pytest.mark.parametrize(
  ('options', 'key'),
  [
    ({'target': 'ema'}, r'ema\.main'),
    ({'distil': True}, r'frozen\.teacher'),
    ({'target': 'frozen', 'enhanced_ratio': 4.0}, r'frozen\.teacher'),
  ],
)
def test_a_missing_network_names_the_key_that_fills_it(options, key):
  with pytest.raises(MissingRole, match=key):
    twinflow(Roles(student=wavy), batch(), KEY, 0, **options)
