"""Theorem 3.2 of Align Your Flow, on a flow that is known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.flow.times import interval, ordered, sorted_uniform
from flowdistill.flow.weighting import snr
from flowdistill.objectives import ayf_emd, ayf_lmd
from flowdistill.objectives.roles import Roles

pytestmark = pytest.mark.usefixtures('x64')
FLOW = Gaussian(std=0.5)
KEY = jax.random.key(0)
N = 256
EXACT = {'max_r': 1.0, 'warmup_steps': 0, 'c': None}
BOTH = pytest.mark.parametrize('objective', [ayf_emd, ayf_lmd])


def batch(n: int = N, shape=(3,)):
  x0 = FLOW.std * np.random.default_rng(0).normal(size=(n, *shape))
  return {'x0': jnp.asarray(x0), 'cond': {}, 'null': {}}


def nets(offset=0.0):
  """The exact teacher, and a student that is wrong by a constant."""

  def student(x, t, s, cond):
    return FLOW.average_velocity(x, t, s, cond) + offset

  return Roles(student=student, teacher=FLOW.velocity)


def at(t, s):
  """A law of pairs of times that is no law: always these."""
  return lambda key, n: (jnp.broadcast_to(t, n), jnp.broadcast_to(s, n))


def push(objective, t, s):
  """The tangent of a student that is wrong by 1, at r = 1.

  For F + a, EMD has g = a, since a does not change along the path. LMD asks
  the teacher where the student lands, a (s − t) further along its velocity
  rate(s) x, so that g = a (1 + (t − s) rate(s)).
  """
  return 1.0 if objective is ayf_emd else 1 + (t - s) * FLOW.rate(s)


@BOTH
@pytest.mark.parametrize('times', [interval, ordered, sorted_uniform])
@pytest.mark.parametrize('shape', [(3,), (2, 2, 1)])
def test_the_exact_flow_map_has_no_tangent(objective, times, shape):
  data = batch(shape=shape)
  loss, metrics = objective(nets(), data, KEY, 0, times=times, **EXACT)
  assert loss.shape == (N,)
  assert loss.dtype == jnp.float64
  np.testing.assert_array_less(np.sqrt(loss), 1e-8)  # c=None: ‖g‖
  assert metrics['tangent_norm'] < 1e-8


@BOTH
def test_a_map_of_other_data_has_a_tangent(objective):
  wrong = Roles(
    student=Gaussian(std=0.6).average_velocity, teacher=FLOW.velocity
  )
  loss, _ = objective(wrong, batch(), KEY, 0, **EXACT)
  assert np.mean(np.sqrt(loss)) > 1e-2


@BOTH
def test_at_r_below_one_a_share_of_straightness_remains(objective):
  """g = (1 − r)(F − v_φ) at the exact map, sample by sample."""
  run = functools.partial(
    objective, nets(), batch(), KEY, 0, warmup_steps=0, c=None
  )
  straightness, _ = run(max_r=0.0)
  residual, _ = run(max_r=0.99)
  assert np.median(straightness) > 1e-3
  np.testing.assert_allclose(residual, 1e-4 * straightness, rtol=1e-6)


@BOTH
def test_at_r_zero_the_tangent_is_the_difference_to_the_teacher(objective):
  """EMD evaluates it where the jump starts, LMD where it ends.

  All is linear in x, so that over the loss of a student that does not move at
  all, ‖v(x, t or s)‖², only numbers are left.
  """
  t, s = jnp.array(0.9), jnp.array(0.4)
  kappa = FLOW.average_velocity(jnp.ones(()), t, s)
  v = FLOW.rate(t)
  if objective is ayf_lmd:
    v = FLOW.rate(s) * (1 + (s - t) * kappa)

  def loss(student):
    run = Roles(student=student, teacher=FLOW.velocity)
    options = EXACT | {'max_r': 0.0, 'times': at(t, s)}
    return objective(run, batch(), KEY, 0, **options)[0]

  still = loss(lambda x, t, s, cond: jnp.zeros_like(x))
  rate = FLOW.rate(t if objective is ayf_emd else s)
  ratio = loss(FLOW.average_velocity) / still
  np.testing.assert_allclose(ratio, ((kappa - v) / rate) ** 2, rtol=1e-9)


@BOTH
@pytest.mark.parametrize('offset', [-0.3, 0.3])
def test_a_wrong_student_is_pushed_back(objective, offset):
  t, s = (jnp.asarray(np.linspace(*ends, N)) for ends in ((0.2, 1), (0, 0.9)))

  def losses(offset):
    options = EXACT | {'times': at(t, s)}
    return objective(nets(offset), batch(), KEY, 0, **options)[0]

  g = push(objective, t, s) * offset
  np.testing.assert_allclose(losses(offset), 3 * g**2, rtol=1e-9)
  slope = jax.jacobian(losses)(offset)
  np.testing.assert_allclose(slope, 2 * 3 * g, rtol=1e-9)
  assert (np.sign(slope) == np.sign(offset)).all()


@BOTH
def test_the_exact_map_is_stationary(objective):
  def losses(offset):
    return jnp.sum(objective(nets(offset), batch(), KEY, 0, **EXACT)[0])

  assert abs(jax.grad(losses)(0.0)) < 1e-8


@BOTH
def test_the_gradient_is_that_of_a_frozen_target(objective):
  """2 w g · dF, through F alone: not through g, the tangent or the jump.

  The student a u has F = a κ x and, whatever x, g = (a − 1) rate x: the rate
  at t in EMD, at s in LMD. So slope over loss is 2 κ / ((a − 1) rate).
  """
  t, s, a = jnp.array(0.9), jnp.array(0.4), 1.3
  kappa = FLOW.average_velocity(jnp.ones(()), t, s)
  rate = FLOW.rate(t if objective is ayf_emd else s)

  def losses(a):
    def student(*inputs):
      return a * FLOW.average_velocity(*inputs)

    run = Roles(student=student, teacher=FLOW.velocity)
    options = EXACT | {'times': at(t, s), 'weight': snr}
    return objective(run, batch(), KEY, 0, **options)[0]

  ratio = jax.jacobian(losses)(a) / losses(a)
  np.testing.assert_allclose(ratio, 2 * kappa / ((a - 1) * rate), rtol=1e-9)


@BOTH
def test_the_teacher_gets_no_gradient(objective):
  def loss(scale):
    def teacher(x, t, cond):
      return scale * FLOW.velocity(x, t)

    run = Roles(student=nets(0.3).student, teacher=teacher)
    return jnp.sum(objective(run, batch(), KEY, 0, **EXACT)[0])

  assert jax.grad(loss)(1.0) == 0


@BOTH
@pytest.mark.parametrize('c', [0.1, 2.0])
def test_a_normalised_tangent_has_the_length_that_c_says(objective, c):
  """For the student that is wrong by a, of g = a push in three dimensions."""
  t, s = jnp.array(0.9), jnp.array(0.4)
  length = 0.3 * push(objective, t, s) * 3**0.5
  options = EXACT | {'times': at(t, s), 'c': c}
  loss, metrics = objective(nets(0.3), batch(), KEY, 0, **options)
  np.testing.assert_allclose(loss, (length / (length + c)) ** 2, rtol=1e-9)
  assert float(metrics['tangent_norm']) == pytest.approx(float(length))


@BOTH
def test_r_warms_up(objective):
  def r(step, **options):
    step = jnp.asarray(step, jnp.int32)
    return float(objective(nets(), batch(), KEY, step, **options)[1]['r'])

  assert [r(k) for k in (0, 2500, 20_000)] == pytest.approx([0, 0.25, 0.99])
  assert r(30, warmup_steps=40, max_r=0.5) == 0.5
  assert r(0, warmup_steps=0) == pytest.approx(0.99)
  assert r(0, warmup_steps=0, max_r=1.0) == 1


@BOTH
def test_r_of_the_warm_up_is_the_r_of_the_tangent(objective):
  run = functools.partial(objective, nets(), batch(), KEY, c=None)
  halfway, _ = run(50, warmup_steps=100)
  fixed, _ = run(0, warmup_steps=0, max_r=0.5)
  np.testing.assert_allclose(halfway, fixed, rtol=1e-12)


@BOTH
def test_the_weight_multiplies_the_loss(objective):
  run = functools.partial(objective, nets(0.3), batch(), KEY, 0, **EXACT)
  times = at(jnp.array(0.9), jnp.array(0.4))
  plain, _ = run(times=times)
  weighed, _ = run(times=times, weight=lambda t, s: t + 10 * s)
  np.testing.assert_allclose(weighed, 4.9 * plain, rtol=1e-12)


@BOTH
def test_both_networks_are_asked_under_the_condition_of_the_batch(objective):
  def student(x, t, s, cond):
    return FLOW.average_velocity(x, t, s) + cond['shift'][:, None]

  def teacher(x, t, cond):
    return FLOW.velocity(x, t) + cond['shift'][:, None]

  run = Roles(student=student, teacher=teacher)
  data = batch()
  data['cond'] = {'shift': jnp.linspace(-1, 1, N)}
  data['null'] = {'shift': jnp.full(N, 9.0)}
  times = at(jnp.array(0.9), jnp.array(0.9))  # s = t: g = F − v
  loss, _ = objective(run, data, KEY, 0, **EXACT, times=times)
  np.testing.assert_array_less(loss, 1e-16)


@BOTH
def test_a_missing_teacher_names_the_key_that_fills_it(objective):
  alone = Roles(student=FLOW.average_velocity)
  with pytest.raises(AttributeError, match=r'nets\.teacher.*frozen\.teacher'):
    objective(alone, batch(), KEY, 0)
