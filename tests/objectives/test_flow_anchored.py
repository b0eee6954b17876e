"""Flow-anchored consistency, on flows whose average velocity is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guided_gaussians import GuidedGaussians
from oracle import Gaussian, Mixture

from flowdistill.flow.transport import expand
from flowdistill.objectives import facm
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
FLOW, PAIR = Gaussian(std=0.5), GuidedGaussians()
KEY = jax.random.key(0)
N = 64
FLOWS = pytest.mark.parametrize('flow', [Gaussian(0.5), Mixture()])
PLAIN = {'cosine': 0.0, 'p': None, 'clip': None, 'q': 0.0, 'beta': 0.0}
T = np.linspace(0.05, 1.0, N)


def batch(flow, n=N):
  x0 = flow.draw(np.random.default_rng(0), 2 * n).reshape(n, 2)
  return {'x0': jnp.asarray(x0), 'cond': {}, 'null': {}}


def run(nets, data, **options):
  return facm(nets, data, KEY, 0, **options)


def along(key, n):
  """A law of times that is no law: always these."""
  return jnp.asarray(T)


def exact(flow):
  return Roles(student=flow.average_velocity, teacher=flow.velocity)


@FLOWS
@pytest.mark.parametrize('options', [{}, PLAIN])
def test_distilled_the_exact_map_has_no_residual(flow, options):
  loss, metrics = run(exact(flow), batch(flow), distil=True, **options)
  assert loss.shape == (N,)
  np.testing.assert_array_less(loss, 1e-14)
  assert max(map(abs, metrics.values())) < 1e-14


@pytest.mark.parametrize('options', [{}, PLAIN])
def test_a_map_of_other_data_has_a_residual_in_both_terms(options):
  nets = Roles(student=Gaussian(0.7).average_velocity, teacher=FLOW.velocity)
  _, metrics = run(nets, batch(FLOW), distil=True, **options)
  assert metrics['anchor'] > 1e-3
  assert metrics['jump'] > 1e-3


@FLOWS
def test_from_scratch_the_mean_gradient_turns_at_the_exact_map(flow):
  """Slopes in a of the loss of u + a φ, over their standard error, with no
  constant in which the noise of x1 − x0 would leave a mean."""
  n = 4000
  data = batch(flow, n)
  options = PLAIN | {'p': 0.5, 'beta': 1.0}

  def losses(a):
    def student(x, t, s, cond):
      return flow.average_velocity(x, t, s) + a * x * expand(1 + t - s, x)

    return run(Roles(student=student), data, **options)[0]

  @jax.jit
  def slope(a):
    slopes = jax.jvp(losses, (a,), (1.0,))[1]
    return jnp.mean(slopes) / (jnp.std(slopes) / n**0.5)

  assert abs(slope(0.0)) < 4
  assert slope(-0.3) < -6
  assert slope(0.3) > 6


OFF = 0.7  # Then g = 0.7, and the anchor is off by the same.
ALPHA = 1 - (1 - T) ** 0.5
BETA = np.sin(np.pi * T / 2)


@pytest.mark.parametrize(
  ('options', 'wanted'),
  [
    ({}, OFF**2),
    ({'p': 0.5}, (ALPHA * OFF) ** 2),
    ({'p': 2.0}, ((1 - (1 - T) ** 2) * OFF) ** 2),
    ({'clip': 1.0}, OFF**2),
    ({'clip': 0.2}, 0.2**2),
    ({'clip': 0.2, 'p': 0.5}, (ALPHA * 0.2) ** 2),
    ({'q': 0.5}, OFF**2 / (OFF**2 + 1e-3) ** 0.5),
    ({'q': 1.0, 'c': 2.0}, OFF**2 / (OFF**2 + 2)),
    ({'q': 1.0, 'p': 0.5}, (ALPHA * OFF) ** 2 / ((ALPHA * OFF) ** 2 + 1e-3)),
    ({'beta': 1.0}, BETA * OFF**2),
    ({'beta': 2.0}, BETA**2 * OFF**2),
  ],
)
def test_a_student_that_is_wrong_by_a_constant(options, wanted):
  """Of u + a the tangent is a, at every x and t; the rest is arithmetic."""

  def student(x, t, s, cond):
    return FLOW.average_velocity(x, t, s) - OFF

  nets = Roles(student=student, teacher=FLOW.velocity)
  options = PLAIN | options | {'times': along, 'distil': True}
  loss, metrics = run(nets, batch(FLOW), **options)
  np.testing.assert_allclose(loss, OFF**2 + wanted, rtol=1e-9)
  assert metrics['anchor'] == pytest.approx(OFF**2)
  assert metrics['jump'] == pytest.approx(float(np.mean(wanted)))


def test_the_constants_are_those_of_the_code_unless_told():
  paper = {'cosine': 1.0, 'p': 0.5, 'clip': 1.0, 'q': 0.5, 'c': 1e-3}
  nets = Roles(student=Gaussian(2.0).average_velocity, teacher=FLOW.velocity)
  default, _ = run(nets, batch(FLOW), distil=True)
  told, _ = run(nets, batch(FLOW), distil=True, beta=1.0, **paper)
  np.testing.assert_array_equal(default, told)


@pytest.mark.parametrize('cosine', [1.0, 0.3])
def test_the_angle_is_between_the_channels_of_a_pixel(cosine):
  """Half of the pixels point the right way, half of them to the side."""
  x0 = jnp.asarray(np.random.default_rng(0).normal(size=(N, 2, 2, 3)))
  v = jnp.array([1.0, 0.0, 0.0])
  u = jnp.stack([4 * v, jnp.array([0.0, 2.0, 0.0])])[:, None]

  def student(x, t, s, cond):
    return jnp.broadcast_to(u, x.shape)

  nets = Roles(student=student, teacher=lambda x, t, c: v + jnp.zeros_like(x))
  data = {'x0': x0, 'cond': {}}
  options = PLAIN | {'cosine': cosine, 'distil': True}
  _, metrics = run(nets, data, **options)
  of_squares = (3**2 / 3 + (1 + 2**2) / 3) / 2
  assert metrics['anchor'] == pytest.approx(of_squares + cosine * 0.5)


def test_an_angle_with_nothing_has_a_finite_gradient():
  """So does a network start, whose last layer is zero."""

  def loss(a):
    nets = Roles(student=lambda x, t, s, cond: a * x, teacher=FLOW.velocity)
    return jnp.sum(run(nets, batch(FLOW), distil=True)[0])

  assert np.isfinite(loss(0.0))
  assert np.isfinite(jax.grad(loss)(0.0))


@pytest.mark.parametrize('p', [None, 0.5])
def test_the_gradient_of_the_jump_is_that_of_u_alone(p):
  """Of a u it is g = (a − 1) v, so that the slope over the loss is
  2 κ / (α (a − 1) rate)."""
  t, a = jnp.array(0.8), 1.3
  kappa = FLOW.average_velocity(jnp.ones(()), t, jnp.zeros(()))
  alpha = 1.0 if p is None else 1 - (1 - t) ** p

  def jump(a):
    def student(*inputs):
      return a * FLOW.average_velocity(*inputs)

    nets = Roles(student=student, teacher=FLOW.velocity)
    times = lambda key, n: jnp.broadcast_to(t, n)  # noqa: E731
    options = PLAIN | {'p': p, 'times': times, 'distil': True}
    return run(nets, batch(FLOW), **options)[1]['jump']

  ratio = jax.grad(jump)(a) / jump(a)
  wanted = 2 * kappa / (alpha * (a - 1) * FLOW.rate(t))
  np.testing.assert_allclose(ratio, wanted, rtol=1e-9)


def test_the_anchor_is_at_t_and_the_jump_goes_to_the_data():
  asked = []

  def student(x, t, s, cond):
    asked.append((t, s))
    return x

  run(Roles(student=student), batch(FLOW), times=along)
  (t, s), (_, end) = asked
  np.testing.assert_array_equal(t, T)
  np.testing.assert_array_equal(s, T)
  np.testing.assert_array_equal(end, 0)


def test_the_teacher_gets_no_gradient():
  def loss(scale):
    def teacher(x, t, cond):
      return scale * x

    nets = Roles(student=FLOW.average_velocity, teacher=teacher)
    data = PAIR.batch(N)
    return jnp.sum(run(nets, data, distil=True, guidance=2.0)[0])

  assert jax.grad(loss)(1.0) == 0


@pytest.mark.parametrize('interval', [(0.0, 1.0), (0.3, 0.6)])
def test_guidance_ends_at_the_guided_map(interval):
  """Pointwise, also where the condition was dropped."""
  low, high = interval
  options = {'guidance': 2.0, 'guidance_low': low, 'guidance_high': high}
  data = PAIR.batch(N, dropped=16)

  def loss(scale, low=low, high=high):
    student = PAIR.student(scale, low, high)
    nets = Roles(student=student, teacher=PAIR.velocity)
    return run(nets, data, distil=True, times=along, **options)[0]

  np.testing.assert_array_less(loss(2.0), 1e-14)
  assert np.max(loss(2.5)[:48]) > 1e-2
  np.testing.assert_array_less(loss(2.5)[48:], 1e-14)
  if interval != (0.0, 1.0):
    assert np.max(loss(2.0, low=0.4)) > 1e-3
    assert np.max(loss(2.0, high=0.5)) > 1e-3


def test_from_scratch_the_student_without_condition_is_the_worse_and_frozen():
  asked = []

  def loss(a):
    def student(x, t, s, cond):
      asked.append(cond['label'])
      free = expand(cond['label'] == 0, x)
      return jnp.where(free, a, 1.0) * FLOW.average_velocity(x, t, s)

    options = {'guidance': 2.0, 'times': along}
    return jnp.sum(run(Roles(student=student), PAIR.batch(N), **options)[0])

  assert jax.grad(loss)(1.2) == 0
  assert loss(1.2) != loss(1.0)
  np.testing.assert_array_equal(asked[0], 0)


def test_without_guidance_null_is_not_asked_for():
  data = PAIR.batch(N)
  del data['null']
  loss, _ = run(exact(FLOW), data, distil=True)
  np.testing.assert_array_less(loss, 1e-14)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'cosine': -1.0}, 'cosine = -1.0 must be at least 0'),
    ({'p': 0.0}, 'p = 0.0 must be above 0'),
    ({'clip': 0.0}, 'clip = 0.0 must be above 0'),
    ({'c': 0.0}, 'c = 0.0 must be above 0'),
    ({'guidance': 2.0, 'guidance_low': 2.0}, 'guidance_low = 2.0 must lie'),
    ({'guidance': 2.0, 'guidance_high': 2.0}, 'guidance_high = 2.0 must lie'),
  ],
)
def test_an_option_out_of_range_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    run(exact(FLOW), PAIR.batch(N), **options)


def test_guidance_without_a_condition_is_refused():
  with pytest.raises(ValueError, match='guidance needs a condition'):
    run(exact(FLOW), batch(FLOW), guidance=2.0)


def test_a_missing_teacher_names_the_key_that_fills_it():
  alone = Roles(student=FLOW.average_velocity)
  with pytest.raises(MissingRole, match=r'frozen\.teacher'):
    run(alone, batch(FLOW), distil=True)
