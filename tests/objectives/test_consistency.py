"""Consistency models on flows whose consistency function is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture

from flowdistill.flow.times import logit_normal
from flowdistill.flow.trigonometric import angle_of
from flowdistill.objectives import ect, scm
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
N = 64
FLOWS = pytest.mark.parametrize('flow', [Gaussian(), Mixture()])
# At r = 1 and without normalisation the loss of scm is ‖g‖²; without c that of
# ect is ‖f_t − f_r‖² over the gap.
SCM = {'warmup_steps': 0, 'c': None}
ECT = {'c': None, 'k': 0.0}


def batch(flow, n=N, dims=3):
  generator = np.random.default_rng(0)
  x0 = np.stack([flow.draw(generator, n)[:, 0] for _ in range(dims)], axis=1)
  return {'x0': jnp.asarray(x0), 'cond': {}, 'null': {}}


def nets(flow, offset=0.0):
  """The exact teacher, and a student that is wrong by a constant."""

  def student(x, t, s, cond):
    return flow.average_velocity(x, t, s, cond) + offset

  return Roles(student=student, teacher=flow.velocity)


def at(t):
  return lambda key, n: jnp.full(n, t)


@FLOWS
def test_distilled_the_exact_map_has_no_tangent(flow):
  loss, metrics = scm(nets(flow), batch(flow), KEY, 0, distil=True, **SCM)
  assert loss.shape == (N,)
  np.testing.assert_array_less(np.sqrt(loss), 1e-7)
  assert metrics['r'] == 1


@FLOWS
def test_another_map_has_one(flow):
  wrong = nets(flow, offset=0.1)
  loss, _ = scm(wrong, batch(flow), KEY, 0, distil=True, **SCM)
  assert np.median(np.sqrt(loss)) > 1e-2


@pytest.mark.parametrize('std', [0.5, 1.0])
def test_the_tangent_of_a_constant_error_is_known(std):
  """u + a moves f by −t a, and g = cos τ df/dτ by −cos τ a dt/dτ.

  With n² = t² + σd² (1 − t)²: cos τ = σd (1 − t) / n, and dt/dτ = n² / σd.
  """
  flow, a, t = Gaussian(), 0.3, 0.7
  options = {'distil': True, 'std': std, 'times': at(t), **SCM}
  loss, _ = scm(nets(flow, a), batch(flow), KEY, 0, **options)
  n = np.hypot(t, std * (1 - t))
  g = a * std * (1 - t) / n * n**2 / std
  np.testing.assert_allclose(loss, 3 * g**2, rtol=1e-6)


def test_the_regression_goes_against_the_error():
  """The slope of the loss in a constant error has the sign of the error."""
  flow = Gaussian()

  def loss(a):
    options = {'distil': True, 'times': at(0.5), **SCM}
    return jnp.sum(scm(nets(flow, a), batch(flow), KEY, 0, **options)[0])

  slope = jax.grad(loss)
  assert slope(-0.2) < 0 < slope(0.2)
  assert abs(slope(0.0)) < 1e-6


@FLOWS
def test_from_scratch_the_exact_map_is_stationary_on_average(flow):
  """dx/dτ is then that of the pair, right only in the mean.

  The gradient in a constant error changes sign within its standard error.
  """
  data, n = batch(flow, n=20_000, dims=1), 20_000

  def losses(a):
    options = {'times': at(0.5), **SCM}
    return scm(nets(flow, a), data, KEY, 0, **options)[0]

  slopes = {a: jax.jvp(losses, (a,), (1.0,))[1] for a in (-0.2, 0.0, 0.2)}
  error = np.std(slopes[0.0]) / n**0.5
  assert abs(np.mean(slopes[0.0])) < 3 * error
  assert np.mean(slopes[-0.2]) < -5 * error
  assert np.mean(slopes[0.2]) > 5 * error


def test_at_r_zero_only_the_difference_to_the_circle_is_left():
  """g = −cos²τ (σd F − dx/dτ): for u = v it is 0 in the limit of no time.

  For data of the standard deviation σd nothing moves on the circle, dx/dτ = 0,
  and a student with F = 0 has no tangent although its map may be wrong.
  """
  flow = Gaussian(std=0.5)

  def still(x, t, s, cond):  # F = 0: cos τ x_τ = x_t − t u
    n2 = t**2 + 0.25 * (1 - t) ** 2
    return ((t - 0.25 * (1 - t)) / n2)[:, None] * x

  run = Roles(student=still, teacher=flow.velocity)
  options = {'distil': True, 'warmup_steps': 0, 'c': None}
  loss, _ = scm(run, batch(flow), KEY, 0, max_r=0.0, **options)
  np.testing.assert_array_less(loss, 1e-20)
  loss, _ = scm(run, batch(flow), KEY, 0, max_r=1.0, **options)
  assert np.median(loss) > 1e-4


def test_the_share_r_is_linear_in_the_tangent():
  flow = Gaussian()
  run = functools.partial(scm, nets(flow, 0.3), batch(flow), KEY)
  options = {'distil': True, 'c': None}
  halfway = run(50, warmup_steps=100, **options)[0]
  fixed = run(0, warmup_steps=0, max_r=0.5, **options)[0]
  np.testing.assert_allclose(halfway, fixed, rtol=1e-12)
  assert not np.allclose(run(100, warmup_steps=100, **options)[0], halfway)


@pytest.mark.parametrize('c', [0.1, 2.0])
def test_a_normalised_tangent_has_the_length_that_c_says(c):
  flow = Gaussian()
  run = functools.partial(scm, nets(flow, 0.3), batch(flow), KEY, 0)
  options = {'distil': True, 'warmup_steps': 0}
  length = np.sqrt(run(c=None, **options)[0])
  loss, _ = run(c=c, **options)
  np.testing.assert_allclose(loss, (length / (length + c)) ** 2, rtol=1e-9)


def test_the_angle_has_the_noise_level_of_the_time():
  """The law is of t / (1 − t), whatever σd is."""
  t = logit_normal(KEY, 9, mean=-1.0, std=1.4)
  for std in (0.5, 1.0):
    np.testing.assert_allclose(
      std * np.tan(angle_of(t, std)), t / (1 - t), rtol=1e-5
    )


# --- ect ---------------------------------------------------------------------


@FLOWS
def test_distilled_the_residual_falls_with_the_square_of_the_gap(flow):
  """An Euler step misses the path by O(gap²), the loss is (gap²)² / gap."""

  def residual(stage):
    options = {'distil': True, 'times': at(0.5), 'double_steps': 1, **ECT}
    return ect(nets(flow), batch(flow), KEY, stage - 1, **options)[0]

  ratio = np.mean(residual(8)) / np.mean(residual(9))
  assert ratio == pytest.approx(2**3, rel=0.05)


@FLOWS
def test_from_scratch_the_exact_map_is_stationary_when_the_gap_closes(flow):
  data, n = batch(flow, n=20_000, dims=1), 20_000

  def losses(a):
    options = {'times': at(0.5), 'double_steps': 1, **ECT}
    return ect(nets(flow, a), data, KEY, 9, **options)[0]

  slopes = {a: jax.jvp(losses, (a,), (1.0,))[1] for a in (-0.2, 0.0, 0.2)}
  error = np.std(slopes[0.0]) / n**0.5
  assert abs(np.mean(slopes[0.0])) < 4 * error
  assert np.mean(slopes[-0.2]) < -5 * error
  assert np.mean(slopes[0.2]) > 5 * error


@pytest.mark.parametrize(
  ('step', 'share'), [(0, 1 / 3), (9, 1 / 3), (10, 1 / 9), (25, 1 / 27)]
)
def test_the_gap_shrinks_from_stage_to_stage(step, share):
  """σ_r = σ_t (1 − 1 / q^a), and r / t determines σ_r: at t = 1/2, σ_t = 1."""
  flow = Gaussian()
  options = {'times': at(0.5), 'q': 3.0, 'double_steps': 10, **ECT}
  _, metrics = ect(nets(flow), batch(flow), KEY, step, **options)
  sigma = 1 - share
  ratio = sigma / (1 + sigma) / 0.5
  assert float(metrics['time_ratio']) == pytest.approx(ratio, rel=1e-6)


def test_at_little_noise_the_gap_is_wider():
  """By 1 + k sigmoid(−b σ); never below time 0, where f is the data."""
  flow = Gaussian()
  run = functools.partial(ect, nets(flow), batch(flow), KEY, 0, c=None)
  _, metrics = run(times=at(0.5), q=4.0, k=1.0, b=2.0)
  sigma = 1 - (1 + 1 / (1 + np.exp(2))) / 4
  ratio = sigma / (1 + sigma) / 0.5
  assert float(metrics['time_ratio']) == pytest.approx(ratio, rel=1e-6)
  assert run(times=at(0.1), q=2.0, k=8.0)[1]['time_ratio'] == 0


def test_at_the_start_the_target_is_the_data():
  """With r = 0 the loss is ‖x_t − t u − x0‖² / σ_t: a denoiser's."""
  data, t = batch(Gaussian()), 0.2
  zero = Roles(student=lambda x, t, s, cond: jnp.zeros_like(x))
  loss, _ = ect(zero, data, KEY, 0, times=at(t), c=None)
  key_x = jax.random.split(KEY)[1]
  x1 = jax.random.normal(key_x, data['x0'].shape, data['x0'].dtype)
  residual = t * (x1 - data['x0'])
  np.testing.assert_allclose(
    loss, jnp.sum(residual**2, axis=1) / (t / (1 - t)), rtol=1e-9
  )


def test_the_pseudo_huber_loss():
  flow = Gaussian()
  options = {'times': at(0.5), 'k': 0.0}
  run = functools.partial(ect, nets(flow, 0.3), batch(flow), KEY, 0, **options)
  gap = 0.5
  norm = run(c=None)[0] * gap
  np.testing.assert_allclose(
    run(c=0.2)[0] * gap, np.sqrt(norm + 0.04) - 0.2, rtol=1e-9
  )


@pytest.mark.parametrize('distil', [False, True])
@pytest.mark.parametrize('objective', [ect, scm])
def test_the_target_is_frozen(objective, distil):
  """The gradient goes through f(x_t, t) or F alone, not through the teacher."""
  flow = Gaussian()

  def loss(scale, teacher=flow.velocity):
    def student(*inputs):
      return scale * flow.average_velocity(*inputs)

    run = Roles(student=student, teacher=teacher)
    options = {'times': at(0.5), 'c': None, 'distil': distil}
    return jnp.sum(objective(run, batch(flow), KEY, 0, **options)[0])

  def of_teacher(scale):
    return loss(1.3, lambda x, t, cond: scale * flow.velocity(x, t))

  if distil:
    assert jax.grad(of_teacher)(1.0) == 0
  else:
    assert of_teacher(1.0) == of_teacher(2.0)


def test_the_target_of_ect_gets_no_gradient():
  """u = a x: f_t − f_r = (1 − t a) x_t − (1 − r a) x_r, the second frozen."""
  flow, t = Gaussian(), 0.5
  data = batch(flow)

  def losses(a):
    run = Roles(student=lambda x, t, s, cond: a * x)
    return ect(run, data, KEY, 0, times=at(t), **ECT)[0]

  key_x = jax.random.split(KEY)[1]
  x1 = jax.random.normal(key_x, data['x0'].shape, data['x0'].dtype)
  a, sigma, r = 0.3, 1.0, 0.5 / 1.5
  x_t, x_r = ((1 - k) * data['x0'] + k * x1 for k in (t, r))
  apart = (1 - t * a) * x_t - (1 - r * a) * x_r
  slope = jnp.sum(2 * apart * -t * x_t, axis=1) / (sigma - 0.5)
  np.testing.assert_allclose(jax.jacobian(losses)(a), slope, rtol=1e-8)


@pytest.mark.parametrize('objective', [ect, scm])
def test_the_weight_multiplies_and_the_condition_arrives(objective):
  flow, asked = Gaussian(), []

  def student(x, t, s, cond):
    asked.append(set(cond))
    assert s.shape == t.shape
    return flow.average_velocity(x, t, s) + 0.3

  data = {**batch(flow), 'cond': {'label': jnp.zeros(N)}}
  run = functools.partial(
    objective, Roles(student=student), data, KEY, 0, times=at(0.6)
  )
  weighed = run(weight=lambda t, s: 2 * t + s)[0]
  r = 0.0  # of scm; of ect by its first stage and k = 8
  if objective is ect:
    sigma = 1.5 * (1 - min(1.0, (1 + 8 / (1 + np.exp(1.5))) / 2))
    r = sigma / (1 + sigma)
  np.testing.assert_allclose(weighed, (1.2 + r) * run()[0], rtol=1e-6)
  assert asked and all(keys == {'label'} for keys in asked)


@pytest.mark.parametrize('objective', [ect, scm])
def test_distilled_without_a_teacher_names_the_key(objective):
  alone = Roles(student=Gaussian().average_velocity)
  with pytest.raises(MissingRole, match=r'frozen\.teacher'):
    objective(alone, batch(Gaussian()), KEY, 0, distil=True)


@pytest.mark.parametrize(
  ('objective', 'options', 'message'),
  [
    (ect, {'q': 1.0}, 'q = 1.0 must be above 1'),
    (ect, {'double_steps': 0}, 'double_steps = 0 must'),
    (ect, {'k': -1.0}, 'k = -1.0 must'),
    (ect, {'c': 0.0}, 'c = 0.0 must be above 0'),
    (scm, {'std': 0.0}, 'std = 0.0 must be above 0'),
    (scm, {'max_r': 1.5}, 'max_r = 1.5 must lie'),
    (scm, {'warmup_steps': -1}, 'warmup_steps = -1 must'),
    (scm, {'c': -1.0}, 'c = -1.0 must'),
  ],
)
def test_an_option_out_of_range_is_named(objective, options, message):
  with pytest.raises(ValueError, match=message):
    objective(nets(Gaussian()), batch(Gaussian()), KEY, 0, **options)
