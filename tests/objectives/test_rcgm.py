"""RCGM of any order, on flows whose map is known, and by its own formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.jumps import DIMS, N, apart, batch, drawn, exact
from objectives.recursions import (
  CONDITIONAL,
  at,
  of_label,
  residual,
  wavy,
)
from oracle import Gaussian, Mixture

from flowdistill.flow.couplings import paired
from flowdistill.flow.losses import barron, mean_square
from flowdistill.flow.transport import expand, velocity_of
from flowdistill.flow.weighting import uniform
from flowdistill.objectives.rcgm import rcgm
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
FLOWS = pytest.mark.parametrize('flow', [Gaussian(), Mixture()])
ORDERS = pytest.mark.parametrize('order', [1, 2, 4])
# Then the loss is the mean of g² over an example, and v is the teacher's.
PLAIN = {'clip': None, 'loss': 'l2', 'weight': uniform}
DISTIL = {**PLAIN, 'distil': True}


@FLOWS
def test_at_the_exact_map_the_residual_falls_with_delta(flow):
  """At first order, and whatever N: exact jumps compose."""
  times, data = at(*apart()), batch(flow)

  def rms(order, delta):
    options = {**DISTIL, 'times': times, 'order': order, 'delta': delta}
    loss = jax.jit(lambda data: rcgm(exact(flow), data, KEY, 0, **options)[0])
    return np.sqrt(loss(data))

  coarse, fine, four = rms(2, 2e-3), rms(1, 1e-3), rms(4, 1e-3)
  assert fine.shape == (N,)
  assert fine.mean() < 5e-3
  assert coarse.mean() / fine.mean() == pytest.approx(2, rel=0.03)
  np.testing.assert_allclose(four, fine, rtol=1e-6)


@FLOWS
def test_at_another_map_a_residual_remains(flow):
  wrong = exact(flow) | {'student': exact(Gaussian(0.8)).student}
  loss, metrics = rcgm(Roles(wrong), batch(flow), KEY, 0, **DISTIL)
  assert np.median(loss) > 1e-2
  rms = np.sqrt(loss).mean()
  np.testing.assert_allclose(metrics['residual'], rms, rtol=1e-12)


@ORDERS
@pytest.mark.parametrize('delta', [0.01, 0.05])
@pytest.mark.parametrize('target', ['student', 'ema'])
def test_the_residual_is_that_of_the_paper(order, delta, target):
  """For networks that are far from any flow, and from each other."""
  nets, data = (
    Roles(student=wavy, ema=lambda *a: 2 * wavy(*a)),
    batch(Mixture()),
  )
  t, s = apart()
  x_t, v = drawn(data, t)
  g = residual(nets[target], wavy(x_t, t, s), v, x_t, t, s, order, delta)
  options = {**PLAIN, 'times': at(t, s), 'coupling': paired}
  loss, _ = rcgm(
    nets, data, KEY, 0, order=order, delta=delta, target=target, **options
  )
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-9)


def test_of_order_one_the_limit_of_delta_is_the_tangent_of_mean_flow():
  data, (t, s) = batch(Mixture()), apart()
  x_t, v = drawn(data, t)
  F, dF_dt = jax.jvp(
    lambda x, t: wavy(x, t, s), (x_t, t), (v, jnp.ones_like(t))
  )
  g = F - v + expand(t - s, x_t) * dF_dt
  options = {**PLAIN, 'times': at(t, s), 'coupling': paired, 'delta': 1e-7}
  loss, _ = rcgm(Roles(student=wavy), data, KEY, 0, order=1, **options)
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-5)


def test_of_order_zero_it_is_flow_matching():
  """u(x_t, t, t) is called once, and nothing is clipped."""
  asked, data, (t, s) = [], batch(Mixture()), apart()

  def student(x, t, s, cond):
    asked.append((t, s))
    return wavy(x, t, s)

  options = {'times': at(t, s), 'coupling': paired, 'loss': 'l2'}
  loss, _ = rcgm(
    Roles(student=student), data, KEY, 0, order=0, weight=uniform, **options
  )
  x_t, v = drawn(data, t)
  g = wavy(x_t, t, t) - v
  assert abs(g).max() > 1  # the clip of other orders
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-12)
  ((t_asked, s_asked),) = asked
  np.testing.assert_array_equal(t_asked, s_asked)


@pytest.mark.parametrize('order', [1, 3])
def test_jumps_shorter_than_delta_are_flow_matching(order):
  """F − v itself, at s = t as below δ; and at δ both formulas are one."""
  data, delta = batch(Mixture()), 0.01
  t = jnp.linspace(0.02, 1.0, N)
  for gap in (0.0, 0.004, 0.009999, 0.010001):
    s = t - gap
    x_t, v = drawn(data, t)
    g = wavy(x_t, t, s) - v
    loss, _ = rcgm(
      Roles(student=wavy),
      data,
      KEY,
      0,
      times=at(t, s),
      coupling=paired,
      order=order,
      delta=delta,
      **PLAIN,
    )
    rtol = 1e-12 if gap < delta else 1e-3
    np.testing.assert_allclose(loss, mean_square(g), rtol=rtol)


def test_jumps_are_equal_and_never_go_backwards():
  """Where t − s is less than δ they stay at s, also below t = δ."""
  asked, t = [], jnp.array([1.0, 0.5, 0.004, 0.0])
  s = jnp.array([0.0, 0.497, 0.0, 0.0])

  def student(x, t, s, cond):
    asked.append((t, s))
    return x

  with jax.disable_jit():  # then the loop is one of Python
    data = jax.tree.map(lambda x: x[:4], batch(Mixture()))
    options = {'times': at(t, s), 'order': 3}
    rcgm(Roles(student=student), data, KEY, 0, **options)
  _, *jumps = asked
  ends = np.array([[0.99, 0.66, 0.33, 0], [0.497] * 4, [0.0] * 4, [0.0] * 4])
  starts, lands = (
    np.stack(times, axis=1) for times in zip(*jumps, strict=True)
  )
  np.testing.assert_allclose(starts, ends[:, :-1], atol=1e-12)
  np.testing.assert_allclose(lands, ends[:, 1:], atol=1e-12)


def test_the_step_before_the_jumps_is_switched_off_by_a_delta_of_one():
  """No jump is longer, and what is left is flow matching at (t, s)."""
  data, (t, s) = batch(Mixture()), apart()
  x_t, v = drawn(data, t)
  options = {**PLAIN, 'times': at(t, s), 'coupling': paired, 'delta': 1.0}
  loss, _ = rcgm(Roles(student=wavy), data, KEY, 0, **options)
  g = wavy(x_t, t, s) - v
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-12)


def test_a_clip_bounds_every_coordinate():
  data, (t, s) = batch(Mixture()), apart()
  x_t, v = drawn(data, t)
  g = residual(wavy, wavy(x_t, t, s), v, x_t, t, s, 2, 0.01)
  run = functools.partial(
    rcgm, Roles(student=wavy), data, KEY, 0, times=at(t, s), coupling=paired
  )
  options = {'loss': 'l2', 'weight': uniform}
  assert abs(g).min() < 0.3 < 1 < abs(g).max()
  for clip in (0.3, 1.0):
    loss, _ = run(clip=clip, **options)
    expected = mean_square(jnp.clip(g, -clip, clip))
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
  loss, _ = run(clip=None, **options)
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-9)
  np.testing.assert_allclose(run(**options)[0], run(clip=1.0, **options)[0])


@pytest.mark.parametrize(('clip', 'learnt'), [(None, -1.0), (1.0, -1 / 9)])
def test_a_clip_learns_less_than_the_mean_of_skewed_data(clip, learnt):
  """Of nine x0 = 0 and one 10, at t = s = 1: v − x1 is −1 in the mean, and
  where 9 g + clip(g + 10) is 0 it is −1/9."""
  x0 = jnp.zeros((10, DIMS)).at[3].set(10)
  data = {'x0': x0, 'x1': jnp.ones_like(x0), 'cond': {}}
  options = {'loss': 'l2', 'weight': uniform, 'coupling': paired, 'clip': clip}

  def loss(a):
    nets = Roles(student=lambda x, t, s, cond: x + a)
    times = at(jnp.array(1.0), jnp.array(1.0))
    return jnp.mean(rcgm(nets, data, KEY, 0, times=times, **options)[0])

  slope = jax.jit(jax.grad(loss))
  assert abs(slope(learnt)) < 1e-12
  assert slope(learnt - 0.1) < 0 < slope(learnt + 0.1)


@pytest.mark.parametrize('loss', ['l2', 'barron'])
def test_the_gradient_goes_through_the_one_jump_alone(loss):
  """2 g dF for l2, over √(mean g² + c²) for Barron's loss."""
  data, (t, s), c = batch(Mixture()), apart(), 0.2
  x_t, v = drawn(data, t)

  def losses(a):
    nets = Roles(student=lambda *inputs: a * wavy(*inputs))
    options = {'times': at(t, s), 'coupling': paired, 'clip': None}
    return rcgm(nets, data, KEY, 0, loss=loss, c=c, **options, weight=uniform)[
      0
    ]

  g = residual(
    lambda *args: 1.3 * wavy(*args),
    1.3 * wavy(x_t, t, s),
    v,
    x_t,
    t,
    s,
    2,
    0.01,
  )
  size = mean_square(g)
  norm = 1.0 if loss == 'l2' else jnp.sqrt(size + c**2)
  slope = jnp.mean(2 * g * wavy(x_t, t, s), axis=1) / norm
  np.testing.assert_allclose(losses(1.3), size / norm, rtol=1e-9)
  actual = jax.jit(jax.jacfwd(losses))(1.3)
  np.testing.assert_allclose(actual, slope, rtol=1e-8)


@FLOWS
def test_with_data_alone_the_exact_map_is_stationary_on_average(flow):
  """v = x1 − x0 is noise, and right in the mean: the slope of the loss in a
  constant error of the student changes sign within its standard error."""
  n = 20_000
  data = batch(flow, n=n, dims=1)
  t, s = apart(n)

  def losses(a):
    def student(x, t, s, cond):
      return flow.average_velocity(x, t, s) + a

    nets = Roles(exact(flow) | {'student': student})
    options = {**PLAIN, 'times': at(t, s), 'target': 'ema', 'delta': 1e-3}
    return rcgm(nets, data, KEY, 0, **options)[0]

  slope = jax.jit(lambda a: jax.jvp(losses, (a,), (1.0,))[1])
  error = float(np.std(slope(0.0))) / n**0.5
  assert error < 0.05
  assert abs(np.mean(slope(0.0))) < 4 * error
  for a in (-0.01, 0.01):  # g = a (t − s) / δ
    expected = float(np.mean(2 * a * (t - s) / 1e-3))
    assert float(np.mean(slope(a))) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize('order', [0, 2])
def test_in_float32_nothing_is_nan_where_times_meet(order):
  t = jnp.array([0.0, 1.0, 0.5, 0.01, 0.005, 1.0, 1e-9, 0.3], jnp.float32)
  s = jnp.array([0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.29], jnp.float32)
  x = jnp.ones((8, DIMS), jnp.float32)

  def loss(a):
    def student(x, t, s, cond):
      assert (x.dtype, t.dtype, s.dtype) == (jnp.float32,) * 3
      return a * wavy(x, t, s)

    data = {'x0': 0 * x, 'x1': x, 'cond': {}, 'null': {}}
    options = {'times': at(t, s), 'coupling': paired, 'order': order}
    losses, _ = rcgm(Roles(student=student), data, KEY, 0, **options)
    assert losses.dtype == jnp.float32
    return jnp.sum(losses)

  value, slope = jax.jit(jax.value_and_grad(loss))(jnp.float32(0.7))
  assert np.isfinite(value) and np.isfinite(slope)
  assert value > 0


# --- Enhancement --------------------------------------------------------------


def test_no_teacher_gets_a_gradient():
  def loss(scale):
    nets = Roles(
      student=wavy,
      ema=lambda *a: scale * wavy(*a),
      teacher=lambda *a: scale * of_label(*a),
    )
    data = batch(CONDITIONAL)
    options = {'enhanced_ratio': 0.8, 'distil': True}
    return sum(
      jnp.sum(rcgm(nets, data, KEY, 0, target=target, **options)[0])
      for target in ('ema', 'frozen')
    )

  step = jax.jit(jax.value_and_grad(loss))
  assert step(1.0)[0] != step(1.1)[0]
  assert step(1.0)[1] == 0


# --- The rest -----------------------------------------------------------------


def test_the_weight_and_the_constant_of_the_loss():
  t, s = jnp.array(0.9), jnp.array(0.4)
  run = functools.partial(
    rcgm, Roles(student=wavy), batch(Mixture()), KEY, 0, times=at(t, s)
  )
  plain = run(weight=uniform, loss='l2')[0]
  weighed = run(weight=lambda t, s: t + 10 * s, loss='l2')[0]
  np.testing.assert_allclose(weighed, 4.9 * plain, rtol=1e-12)
  for c in (1e-3, 0.5):
    robust = run(weight=uniform, loss='barron', c=c)[0]
    np.testing.assert_allclose(robust, barron(plain, c=c), rtol=1e-12)
  np.testing.assert_array_equal(
    run(weight=uniform)[0], run(weight=uniform, c=1e-3)[0]
  )


def test_distilled_the_velocity_is_the_teachers():
  data, t = batch(Mixture()), jnp.array(0.6)
  nets = Roles(student=lambda x, t, s, cond: 0 * x, teacher=velocity_of(wavy))
  options = {**DISTIL, 'times': at(t, t), 'coupling': paired}
  loss, _ = rcgm(nets, data, KEY, 0, **options)
  x_t, _ = drawn(data, jnp.full(N, t))
  np.testing.assert_allclose(loss, mean_square(wavy(x_t, t, t)), rtol=1e-12)


def test_every_network_is_asked_under_the_condition_of_the_batch():
  data, labels = batch(CONDITIONAL), []

  def student(x, t, s, cond):
    labels.append(cond['label'])
    return wavy(x, t, s)

  rcgm(Roles(student=student), data, KEY, 0)
  assert len(labels) == 2  # F, and the jumps in their loop
  assert all((label == 0).all() for label in labels)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'order': -1}, 'order = -1 must be at least 0'),
    ({'delta': 0.0}, 'delta = 0.0 must be above 0'),
    ({'clip': 0.0}, 'clip = 0.0 must be above 0, or None'),
    ({'loss': 'l1'}, "loss = 'l1' must be one of .*barron"),
    ({'c': 0.0}, 'c = 0.0 must be above 0'),
    ({'enhanced_ratio': -0.1}, 'enhanced_ratio = -0.1 must be at least 0'),
    ({'enhanced_range': (1.0, 0.0)}, r'enhanced_range = \(1.0, 0.0\) must be'),
    ({'enhanced_range': (1.0,)}, r'enhanced_range = \(1.0,\) must be'),
    ({'target': 'weak'}, "target = 'weak' must be one of .*student"),
    (
      {'target': 'frozen'},
      "target = 'frozen' must go with an enhanced_ratio",
    ),
    ({'target': 'ema', 'order': 0}, "target = 'ema' must go with an order"),
  ],
)
def test_an_option_out_of_range_or_without_effect_is_named(options, message):
  flow = Gaussian()
  with pytest.raises(ValueError, match=f'^{message}'):
    rcgm(exact(flow), batch(flow), KEY, 0, **options)


@pytest.mark.parametrize(
  ('options', 'key'),
  [
    ({'target': 'ema'}, r'ema\.main'),
    ({'distil': True}, r'frozen\.teacher'),
    ({'target': 'frozen', 'enhanced_ratio': 4.0}, r'frozen\.teacher'),
  ],
)
def test_a_missing_network_names_the_key_that_fills_it(options, key):
  alone = Roles(student=Gaussian().average_velocity)
  with pytest.raises(MissingRole, match=key):
    rcgm(alone, batch(Gaussian()), KEY, 0, **options)
