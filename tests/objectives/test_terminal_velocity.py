"""Terminal velocity matching, on flows whose average velocity is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guided_gaussians import GuidedGaussians
from oracle import Gaussian, Mixture

from flowdistill.flow import guidance, times
from flowdistill.flow.losses import squared_norm
from flowdistill.flow.transport import expand
from flowdistill.objectives import tvm
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
FLOW, PAIR = Gaussian(std=0.5), GuidedGaussians()
KEY = jax.random.key(0)
N = 64
FLOWS = pytest.mark.parametrize('flow', [Gaussian(0.5), Mixture()])
TIMES = functools.partial(times.interval, instant=0.25)


def batch(flow, n=N):
  x0 = flow.draw(np.random.default_rng(0), 2 * n).reshape(n, 2)
  return {'x0': jnp.asarray(x0), 'cond': {}, 'null': {}}


def run(nets, data, **options):
  return tvm(nets, data, KEY, 0, **{'times': TIMES} | options)


def at(t, s):
  """A law of pairs of times that is no law: always these."""
  return lambda key, n: (jnp.broadcast_to(t, n), jnp.broadcast_to(s, n))


def exact(flow, **other):
  u = flow.average_velocity
  return Roles({'student': u, 'ema': u, 'teacher': flow.velocity} | other)


def noting(u, asked):
  def ask(*inputs):
    asked.append(inputs)
    return u(*inputs)

  return ask


@FLOWS
@pytest.mark.parametrize('target', ['ema', 'student'])
def test_distilled_the_exact_map_has_no_residual(flow, target):
  loss, _ = run(exact(flow), batch(flow), distil=True, target=target)
  assert loss.shape == (N,)
  np.testing.assert_array_less(np.sqrt(loss), 1e-8)


@FLOWS
def test_from_scratch_the_noise_is_in_flow_matching_alone(flow):
  asked = []
  data = batch(flow)
  nets = exact(flow, student=noting(flow.average_velocity, asked))
  loss, metrics = run(nets, data)
  assert metrics['terminal'] < 1e-16
  x_s, s, end, _ = asked[-1]
  np.testing.assert_array_equal(end, s)
  v = (x_s - data['x0']) / expand(s, x_s)  # x1 − x0
  wanted = squared_norm(flow.velocity(x_s, s) - v)
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)
  assert metrics['flow'] == pytest.approx(float(jnp.mean(wanted)))


@pytest.mark.parametrize('target', ['ema', 'student'])
def test_a_map_of_other_data_has_a_residual_in_both_terms(target):
  """The student has the right velocity and wrong jumps, or the reverse."""
  other, one = Gaussian(0.7).average_velocity, FLOW.average_velocity

  def jumps(x, t, s, cond):
    return jnp.where(expand(s == t, x), one(x, t, s), other(x, t, s))

  def instants(x, t, s, cond):
    return jnp.where(expand(s == t, x), other(x, t, s), one(x, t, s))

  for student, wrong, right in (
    (jumps, 'terminal', 'flow'),
    (instants, 'flow', None),
  ):
    nets = exact(FLOW, student=student)
    _, metrics = run(nets, batch(FLOW), distil=True, target=target)
    assert metrics[wrong] > 1e-3
    assert right is None or metrics[right] < 1e-16


@FLOWS
def test_from_scratch_the_mean_gradient_turns_at_the_exact_map(flow):
  """Slopes in a of the loss of u + a φ, over their standard error."""
  n = 4000
  data = batch(flow, n)

  def losses(a):
    def student(x, t, s, cond):
      return flow.average_velocity(x, t, s) + a * x * expand(1 + t - s, x)

    return run(exact(flow, student=student), data)[0]

  @jax.jit
  def slope(a):
    slopes = jax.jvp(losses, (a,), (1.0,))[1]
    return jnp.mean(slopes) / (jnp.std(slopes) / n**0.5)

  assert abs(slope(0.0)) < 4
  assert slope(-0.3) < -6
  assert slope(0.3) > 6


@pytest.mark.parametrize('target', ['ema', 'student'])
def test_the_gradient_goes_through_the_tangent_and_not_through_the_end(target):
  """The student a u has df/ds = a ρ x and the target is τ x.

  The slope over the loss is then 2 ρ / (a ρ − τ), with ρ = κ + (s − t) ∂κ/∂s
  and τ = rate(s) (1 + (s − t) a κ), times a for the student's own.
  """
  t, s, a = jnp.array(0.9), jnp.array(0.4), 1.3

  def kappa(s):
    return FLOW.average_velocity(jnp.ones(()), t, s)

  def terminal(a):
    def student(*inputs):
      return a * FLOW.average_velocity(*inputs)

    nets = exact(FLOW, student=student)
    options = {'times': at(t, s), 'target': target}
    return run(nets, batch(FLOW), **options)[1]['terminal']

  rho = kappa(s) + (s - t) * jax.grad(kappa)(s)
  tau = FLOW.rate(s) * (1 + (s - t) * a * kappa(s))
  tau = tau * a if target == 'student' else tau
  ratio = jax.grad(terminal)(a) / terminal(a)
  np.testing.assert_allclose(ratio, 2 * rho / (a * rho - tau), rtol=1e-9)


def test_ema_and_teacher_get_no_gradient():
  def loss(scale):
    nets = exact(
      FLOW,
      ema=lambda x, t, s, cond: scale * x,
      teacher=lambda x, t, cond: scale * x,
    )
    return jnp.sum(run(nets, batch(FLOW), distil=True)[0])

  assert jax.grad(loss)(1.0) == 0


def test_without_a_jump_only_flow_matching_is_left():
  nets = exact(FLOW, ema=Gaussian(0.9).average_velocity)
  options = {'times': at(0.4, 0.4), 'distil': True}
  loss, metrics = run(nets, batch(FLOW), **options)
  np.testing.assert_array_less(loss, 1e-16)
  assert metrics['terminal'] == 0


@pytest.mark.parametrize('flow_times', [None, times.logit_normal])
def test_flow_matching_is_at_s_or_at_times_of_its_own(flow_times):
  asked = []
  data = batch(FLOW)
  nets = exact(FLOW, student=noting(lambda x, t, s, cond: x, asked))
  run(nets, data, flow_times=flow_times)
  x_r, r, again, _ = asked[-1]
  x_t, t, _, _ = asked[0]
  np.testing.assert_array_equal(r, again)
  x1 = [
    (x - (1 - expand(k, x)) * data['x0']) / expand(k, x)
    for x, k in ((x_t, t), (x_r, r))
  ]
  np.testing.assert_allclose(*x1, rtol=1e-8)
  _, s = TIMES(jax.random.split(KEY, 4)[0], N)
  assert bool((r == s).all()) == (flow_times is None)


# --- Guidance ---------------------------------------------------------------


def conditioned(x, t, s, cond):
  """The exact map of the scale that it is conditioned on."""
  return PAIR.student(cond.get('guidance', 1.0), 0.0, 1.0)(x, t, s, cond)


LAW = functools.partial(guidance.uniform, low=1.0, high=4.0)


def test_the_student_that_does_as_it_is_told_has_no_residual():
  """Pointwise, also where the condition was dropped, whatever the scale."""

  def error(student):
    nets = Roles(student=student, ema=student, teacher=PAIR.velocity)
    data = PAIR.batch(N, dropped=16)
    return np.sqrt(run(nets, data, distil=True, guidance=LAW)[0])

  def stubborn(x, t, s, cond):
    return conditioned(x, t, s, {**cond, 'guidance': cond['guidance'] + 0.5})

  np.testing.assert_array_less(error(conditioned), 1e-8)
  assert np.median(error(stubborn)) > 1e-2


def test_guidance_is_told_as_it_is_drawn():
  asked, of_ema = [], []
  nets = Roles(
    student=noting(lambda x, t, s, cond: x, asked),
    ema=noting(lambda x, t, s, cond: x, of_ema),
  )
  run(nets, PAIR.batch(N, dropped=16), guidance=LAW)
  scale = asked[0][3]['guidance']
  assert 1 < jnp.min(scale[:48]) < 1.3 and 3.7 < jnp.max(scale) < 4
  np.testing.assert_array_equal(scale[48:], 1)
  null, end = (ask[3] for ask in of_ema)
  for cond in (end, asked[-1][3]):
    np.testing.assert_array_equal(cond['guidance'], scale)
    np.testing.assert_array_equal(cond['label'][:48], 1)
  np.testing.assert_array_equal(null['guidance'], 1)
  np.testing.assert_array_equal(null['label'], 0)
  for one, other in zip(of_ema[0][:3], asked[-1][:3], strict=True):
    np.testing.assert_array_equal(one, other)


def test_both_terms_are_divided_by_the_square_of_the_scale():
  """Student 0, target 1: ‖·‖² = 3 in both, the null's share included."""
  nets = Roles(
    student=lambda x, t, s, cond: jnp.zeros_like(x),
    ema=lambda x, t, s, cond: jnp.ones_like(x),
    teacher=lambda x, t, cond: jnp.ones_like(x),
  )
  law = functools.partial(guidance.fixed, scale=2.0)
  data = PAIR.batch(N, dropped=16)
  options = {'times': times.interval, 'distil': True, 'guidance': law}
  loss, _ = run(nets, data, **options)
  np.testing.assert_allclose(loss[:48], (3 + 3) / 4, rtol=1e-12)
  np.testing.assert_allclose(loss[48:], 3 + 3, rtol=1e-12)


def test_the_velocity_without_condition_gets_no_gradient():
  """Only the null branch moves with a; with target 'student' it is learnt from
  the examples that lost their condition, and from those alone."""

  def loss(a):
    def student(x, t, s, cond):
      free = expand(cond['label'] == 0, x)
      return jnp.where(free, a, 1.0) * conditioned(x, t, s, cond)

    options = {'guidance': LAW, 'target': 'student'}
    return jnp.sum(run(Roles(student=student), PAIR.batch(N), **options)[0])

  assert jax.grad(loss)(1.2) == 0
  assert loss(1.2) != loss(1.0)


def test_guidance_without_a_condition_is_refused():
  with pytest.raises(ValueError, match='guidance needs a condition'):
    run(exact(FLOW), batch(FLOW), guidance=LAW)


def test_an_unknown_target_is_named():
  with pytest.raises(ValueError, match="target = 'teacher' must be one of"):
    run(exact(FLOW), batch(FLOW), target='teacher')


def test_a_missing_role_names_the_key_that_fills_it():
  alone = Roles(student=FLOW.average_velocity)
  with pytest.raises(MissingRole, match=r'ema\.main'):
    run(alone, batch(FLOW))
  with pytest.raises(MissingRole, match=r'frozen\.teacher'):
    run(alone, batch(FLOW), distil=True, target='student')
