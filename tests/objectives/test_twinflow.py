"""TwinFlow, kind by kind, and its terms on flows that are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.recursions import (
  CONDITIONAL,
  UNCONDITIONAL,
  guided,
  of_label,
  residual,
  wavy,
)
from oracle import Gaussian, Mixture

from flowdistill.flow import times
from flowdistill.flow.losses import barron, mean_square
from flowdistill.flow.times import fixed
from flowdistill.flow.transport import expand
from flowdistill.flow.weighting import uniform
from flowdistill.objectives.branches import Kinds, times_of
from flowdistill.objectives.roles import MissingRole, Roles
from flowdistill.objectives.twinflow import twinflow

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
N, DIMS = 64, 3
NAMES = ('e2e', 'mul', 'any', 'adv', 'one')
FLOWS = pytest.mark.parametrize('flow', [Gaussian(), Mixture()])
PLAIN = {'clip': None, 'matching_clip': None, 'loss': 'l2', 'weight': uniform}
EVERY = Kinds(one=1.0)
IDLE = {'matching': 0.0}


def only(**weights):
  return Kinds(**{**dict.fromkeys(NAMES, 0.0), **weights})


def batch(flow=CONDITIONAL, n=N, dims=DIMS):
  generator = np.random.default_rng(0)
  x0 = np.stack([flow.draw(generator, n)[:, 0] for _ in range(dims)], axis=1)
  return {
    'x0': jnp.asarray(x0),
    'cond': {'label': jnp.zeros(n)},
    'null': {'label': jnp.ones(n)},
  }


def noted(u, calls):
  """The network u, which records its inputs outside of a loop."""

  def network(x, *rest):
    if not isinstance(x, jax.core.Tracer):
      calls.append((x, *rest))
    return u(x, *rest)

  return network


# --- Kinds and their times ----------------------------------------------------


def test_kinds_are_drawn_for_each_example_by_their_weights():
  n, kinds = 40_000, Kinds(e2e=1.0, mul=2.0, any=3.0, adv=4.0, one=0.0)
  kind = kinds.draw(KEY, n)
  assert tuple(kind) == NAMES
  np.testing.assert_array_equal(sum(m.astype(int) for m in kind.values()), 1)
  for name, share in zip(NAMES, (0.1, 0.2, 0.3, 0.4, 0.0), strict=True):
    assert float(kind[name].mean()) == pytest.approx(share, abs=0.01)
    assert kinds.share(name) == pytest.approx(share)
  assert not kind['one'].any()
  assert kinds.share('any', 'adv') == pytest.approx(0.7)


@pytest.mark.parametrize('name', NAMES)
def test_a_kind_alone_is_always_drawn(name):
  kind = only(**{name: 0.3}).draw(KEY, 100)
  assert {k for k, mask in kind.items() if mask.any()} == {name}
  assert kind[name].all()


@pytest.mark.parametrize(
  ('ratio', 'gap', 'any_mean', 'mul_mean'),
  [
    (1.0, 0.05, 0.5, 0.025),
    (0.4, 0.05, 0.2, 0.025),
    (0.02, 0.05, 0.01, 0.01),  # the less of both
    (1.0, 0.0, 0.5, 0.0),
    (0.0, 0.05, 0.0, 0.0),
  ],
)
def test_the_times_of_every_kind(ratio, gap, any_mean, mul_mean):
  """A jump is uniform up to its longest, as a share of t."""
  n = 20_000
  kind = EVERY.draw(KEY, n)
  t, s = times_of(jax.random.key(1), kind, times.uniform, ratio, gap)
  assert (s >= 0).all() and (s <= t).all() and (t <= 1).all()
  ends = kind['e2e']
  assert (t[ends] == 1).all() and (s[ends] == 0).all()
  assert (s[kind['one']] == 0).all()
  np.testing.assert_array_equal(s[kind['adv']], t[kind['adv']])
  for name, mean in (('any', any_mean), ('mul', mul_mean)):
    share = 1 - s[kind[name]] / t[kind[name]]
    assert float(share.mean()) == pytest.approx(mean, abs=0.02 * mean + 1e-12)
    assert float(share.max()) == pytest.approx(2 * mean, rel=0.01, abs=1e-12)
  for name in NAMES[1:]:
    assert float(t[kind[name]].mean()) == pytest.approx(0.5, abs=0.02)


def test_the_law_of_times_is_an_option():
  asked = []
  nets = Roles(student=noted(wavy, asked))
  options = {'kinds': only(any=1.0), 'matching': 0.0}
  twinflow(
    nets, batch(), KEY, 0, times=lambda key, n: fixed(key, n, t=0.7), **options
  )
  ((_, t, s, _),) = asked
  np.testing.assert_array_equal(t, jnp.float32(0.7))
  assert len(np.unique(s)) == N


@pytest.mark.parametrize(
  ('weights', 'message'),
  [
    ({'adv': -1.0}, 'adv = -1.0 must be at least 0'),
    ({'mul': float('inf')}, 'mul = inf must be at least 0, and finite'),
    ({'any': float('nan')}, 'any = nan must be'),
    (dict.fromkeys(NAMES, 0.0), 'the weights of the kinds are all 0'),
  ],
)
def test_weights_out_of_range_are_named(weights, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    Kinds(**weights)


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


# --- On flows that are known --------------------------------------------------


def twins(flow, fake, jump=None):
  """A student that is right: about the data at t > 0, its samples at t < 0."""

  def student(x, t, s, cond):
    real = flow.average_velocity(x, t, s) if jump is None else jump(x, t, s)
    twin = fake.velocity(x, jnp.abs(t))
    return jnp.where(expand(t, x) < 0, twin, real)

  return student


@FLOWS
def test_the_twin_learns_the_flow_of_the_models_own_samples(flow):
  """Slopes of L_adv in an error of the twin: zero at the velocity of what
  one step makes, back to it from both sides; and the data has no say."""
  n, data = 5000, batch(Gaussian(9.0), n=5000, dims=1)

  def losses(a):
    def student(x, t, s, cond):
      return twins(flow, flow)(x, t, s, cond) + jnp.where(t < 0, a, 0)[:, None]

    options = {'kinds': only(adv=1.0), 'order': 0, **IDLE, **PLAIN}
    return twinflow(Roles(student=student), data, KEY, 0, **options)[0]

  slope = jax.jit(lambda a: jax.jvp(losses, (a,), (1.0,))[1])
  error = float(np.std(slope(0.0))) / n**0.5
  for a in (-0.1, 0.0, 0.1):
    assert float(np.mean(slope(a))) == pytest.approx(2 * a, abs=4 * error)
  assert error < 0.04


def test_the_twin_of_a_point_is_known_to_the_last_digit():
  """If one step makes nothing but m, x_t is m with noise, at time |t|."""
  m = 0.7

  def student(x, t, s, cond):
    to_data = x - m  # z − F = m
    twin = (x - m) / jnp.abs(expand(t, x))
    return jnp.where(expand(t, x) < 0, twin, to_data)

  options = {'kinds': only(adv=1.0), 'order': 0, 'matching': 0.0, **PLAIN}
  loss, _ = twinflow(Roles(student=student), batch(), KEY, 0, **options)
  np.testing.assert_array_less(loss, 1e-12)


@pytest.mark.parametrize('fake', [0.3, 0.5, 0.8])
def test_matching_pulls_the_width_of_the_samples_to_that_of_the_data(fake):
  """One step makes w z, of standard deviation w; data has 0.5.

  Where the twin is right about a w that is too wide the slope in w is above 0,
  too narrow below, and at the data's both velocities are one: it is nothing.
  """

  def rectify(w, **options):
    student = twins(Gaussian(0.5), Gaussian(fake), lambda x, t, s: (1 - w) * x)

    def with_velocity(x, t, s, cond):
      asked = jnp.where((t == s)[:, None], Gaussian(0.5).velocity(x, t), 0)
      return jnp.where(
        (t == s)[:, None] & (t > 0)[:, None], asked, student(x, t, s, cond)
      )

    nets = Roles(student=with_velocity)
    return twinflow(nets, batch(), KEY, 0, **{**PLAIN, **options})[1]['rectify']

  value, slope = jax.value_and_grad(rectify)(fake)
  if fake == 0.5:
    assert value == slope == 0
  else:
    assert value > 1e-3
    assert np.sign(slope) == np.sign(fake - 0.5)
  if fake == 0.8:
    off, small, wide = (
      rectify(fake, matching_clip=clip) for clip in (None, 0.1, 100.0)
    )
    assert small < 0.9 * off
    np.testing.assert_allclose(wide, off, rtol=1e-12)
    np.testing.assert_allclose(
      rectify(fake, matching=1.5), 3 * rectify(fake, matching=0.5), rtol=1e-12
    )


@FLOWS
def test_at_the_exact_map_and_its_twin_all_is_still(flow):
  """The slope in a scale of the student is zero on average, all kinds at once,
  up to δ, and points back on both sides."""
  n, data = 4000, batch(flow, n=4000, dims=1)
  right = twins(flow, flow)

  def losses(a):
    nets = Roles(student=lambda *args: a * right(*args), ema=right)
    options = {
      **PLAIN,
      'target': 'ema',
      'delta': 1e-3,
      'kinds': EVERY,
    }
    return twinflow(nets, data, KEY, 0, **options)[0]

  slope = jax.jit(lambda a: jax.jvp(losses, (a,), (1.0,))[1])
  error = float(np.std(slope(1.0))) / n**0.5
  assert error < 0.1
  assert abs(float(np.mean(slope(1.0)))) < 4 * error
  assert float(np.mean(slope(0.99))) < -10 * error
  assert float(np.mean(slope(1.01))) > 10 * error


@pytest.mark.parametrize('scale', [1.0, 4.0])
def test_without_data_the_guided_flow_of_the_teacher_is_where_it_ends(scale):
  """v_u + ratio (v_c − v_u) of two Gaussians is linear, with f known. Of the
  batch only the shape is used."""
  data = batch() | {'x0': jnp.full((N, DIMS), jnp.nan)}
  nets = Roles(student=guided(scale, 1 - scale), teacher=of_label)
  run = functools.partial(
    twinflow,
    nets,
    data,
    KEY,
    0,
    kinds=only(any=1.0, one=1.0),
    times=lambda key, n: jnp.linspace(0.2, 0.9, n),
    matching=0.0,
    target='frozen',
    data_free=True,
    **PLAIN,
  )
  coarse, fine = (
    np.sqrt(run(delta=delta, enhanced_ratio=scale)[0]).mean()
    for delta in (2e-3, 1e-3)
  )
  assert coarse / fine == pytest.approx(2, rel=0.1)
  other = np.sqrt(run(delta=1e-3, enhanced_ratio=scale + 1)[0]).mean()
  assert fine < other / 4


def test_without_data_every_example_starts_at_a_sample_of_the_models_own():
  asked, m = [], 0.7

  def student(x, t, s, cond):
    return x - m

  data = batch() | {'x0': jnp.full((N, DIMS), jnp.nan)}
  nets = Roles(student=noted(student, asked), teacher=of_label)
  options = {'target': 'frozen', 'enhanced_ratio': 4.0, 'data_free': True}
  loss, _ = twinflow(nets, data, KEY, 0, kinds=EVERY, **options)
  assert np.isfinite(loss).all()
  x, t, _, _ = asked[1]
  noise = (x - (1 - jnp.abs(t)[:, None]) * m) / jnp.abs(t)[:, None]
  assert float(noise.mean()) == pytest.approx(0, abs=0.3)
  assert float(noise.std()) == pytest.approx(1, rel=0.2)


def test_without_data_the_ends_still_take_the_pair_that_was_drawn():
  """They lie outside of the open range: v = x1 − m there, m inside it."""
  asked, m = [], 0.7
  nets = Roles(
    student=noted(lambda x, t, s, cond: x - m, asked), teacher=of_label
  )
  loss, _ = twinflow(
    nets,
    batch(),
    KEY,
    0,
    kinds=only(e2e=1.0, any=1.0),
    delta=1.0,  # then g = F − v
    matching=0.0,
    target='frozen',
    enhanced_ratio=4.0,
    data_free=True,
    **PLAIN,
  )
  x, t, s, cond = asked[1]
  ends = (t == 1) & (s == 0)
  better, worse = (f.velocity(x, t) for f in (CONDITIONAL, UNCONDITIONAL))
  v = jnp.where(ends[:, None], x - m, worse + 4 * (better - worse))
  assert ends.any() and not ends.all()
  np.testing.assert_allclose(loss, mean_square(x - m - v), atol=1e-12)
  assert (cond['label'] == 0).all()


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
