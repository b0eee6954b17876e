"""The identity of MeanFlow, on flows whose average velocity is known."""

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
from flowdistill.objectives import improved_mean_flow, mean_flow
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
FLOW, PAIR = Gaussian(std=0.5), GuidedGaussians()
KEY = jax.random.key(0)
N = 64
PLAIN = {'p': 0.0}
BOTH = pytest.mark.parametrize('objective', [mean_flow, improved_mean_flow])
FLOWS = pytest.mark.parametrize('flow', [Gaussian(0.5), Mixture()])
TIMES = functools.partial(times.interval, instant=0.25)


def batch(flow, n=N):
  x0 = flow.draw(np.random.default_rng(0), 2 * n).reshape(n, 2)
  return {'x0': jnp.asarray(x0), 'cond': {}, 'null': {}}


def at(t, s):
  """A law of pairs of times that is no law: always these."""
  return lambda key, n: (jnp.broadcast_to(t, n), jnp.broadcast_to(s, n))


def run(objective, nets, data, **options):
  return objective(nets, data, KEY, 0, **options)


def exact(flow):
  return Roles(student=flow.average_velocity, teacher=flow.velocity)


@BOTH
@FLOWS
def test_distilled_the_exact_map_has_no_residual(objective, flow):
  options = {'distil': True, 'times': TIMES, **PLAIN}
  loss, metrics = run(objective, exact(flow), batch(flow), **options)
  assert loss.shape == (N,)
  np.testing.assert_array_less(np.sqrt(loss), 1e-8)
  assert metrics['residual'] < 1e-16


@BOTH
def test_the_map_of_other_data_has_a_residual(objective):
  nets = Roles(student=Gaussian(0.6).average_velocity, teacher=FLOW.velocity)
  loss, _ = run(objective, nets, batch(FLOW), distil=True, **PLAIN)
  assert np.median(np.sqrt(loss)) > 1e-2


def directions(x, t, s):
  return jnp.stack([jnp.ones_like(x), x, x * expand(t - s, x)])


@BOTH
@FLOWS
def test_from_scratch_the_mean_gradient_turns_at_the_exact_map(objective, flow):
  """Slopes of the loss of u + Σ a_i φ_i, over their standard errors."""
  n = 4000
  data = batch(flow, n)

  def losses(a):
    def student(x, t, s, cond):
      u = flow.average_velocity(x, t, s)
      return u + jnp.tensordot(a, directions(x, t, s), 1)

    nets = Roles(student=student)
    return objective(nets, data, KEY, 0, times=TIMES, **PLAIN)[0]

  @jax.jit
  def slopes(a):
    by_example = jax.jacfwd(losses)(a)
    return jnp.mean(by_example, 0) / (jnp.std(by_example, 0) / n**0.5)

  assert (abs(slopes(jnp.zeros(3))) < 4).all()
  for i, off in enumerate(0.5 * jnp.eye(3)):
    assert slopes(-off)[i] < -6
    assert slopes(off)[i] > 6


@FLOWS
def test_the_noise_of_the_pair_is_not_in_the_tangent_of_the_improved_one(flow):
  """V is v(x_t, t), so that the residual is that of flow matching, exactly."""
  asked = []

  def student(x, t, s, cond):
    asked.append((x, t))
    return flow.average_velocity(x, t, s)

  data = batch(flow)
  nets = Roles(student=student)
  loss, _ = improved_mean_flow(nets, data, KEY, 0, times=TIMES, **PLAIN)
  x_t, t = asked[0]
  v = (x_t - data['x0']) / expand(t, x_t)  # x1 − x0
  wanted = squared_norm(flow.velocity(x_t, t) - v)
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)


def stretched(a):
  return Roles(
    student=lambda *inputs: a * FLOW.average_velocity(*inputs),
    teacher=FLOW.velocity,
  )


@BOTH
def test_the_gradient_is_that_of_u_alone(objective):
  """The student a u = a κ x has a residual ρ x; its slope is 2 ρ κ x².

  mean_flow: ρ = (a − 1) rate, since (t − s) du/dt = v − u. improved: the
  tangent goes along a v, so ρ = a κ + (t − s) a (a κ rate + ∂κ/∂t) − rate.
  """
  t, s, a = jnp.array(0.9), jnp.array(0.4), 1.3

  def kappa(t):
    return FLOW.average_velocity(jnp.ones(()), t, s)

  rho = (a - 1) * FLOW.rate(t)
  if objective is improved_mean_flow:
    along = a * kappa(t) * FLOW.rate(t) + jax.grad(kappa)(t)
    rho = a * kappa(t) + (t - s) * a * along - FLOW.rate(t)

  def losses(a):
    options = {'distil': True, 'times': at(t, s), **PLAIN}
    return run(objective, stretched(a), batch(FLOW), **options)[0]

  ratio = jax.jacobian(losses)(a) / losses(a)
  np.testing.assert_allclose(ratio, 2 * kappa(t) / rho, rtol=1e-9)


@BOTH
def test_the_teacher_gets_no_gradient(objective):
  def loss(scale):
    def teacher(x, t, cond):
      return scale * x

    nets = Roles(student=FLOW.average_velocity, teacher=teacher)
    return jnp.sum(run(objective, nets, batch(FLOW), distil=True)[0])

  assert jax.grad(loss)(1.0) == 0


@BOTH
@pytest.mark.parametrize(('p', 'c'), [(1.0, 0.01), (0.5, 2.0)])
def test_the_weight_is_adaptive_and_frozen(objective, p, c):
  def losses(a, **options):
    options = {'distil': True, **options}
    return run(objective, stretched(a), batch(FLOW), **options)[0]

  plain = functools.partial(losses, p=0.0)
  weighed = functools.partial(losses, p=p, c=c)
  weight = 1 / (plain(1.3) + c) ** p
  np.testing.assert_allclose(weighed(1.3), weight * plain(1.3), rtol=1e-12)
  slopes = jax.jacobian(weighed)(1.3), jax.jacobian(plain)(1.3)
  np.testing.assert_allclose(slopes[0], weight * slopes[1], rtol=1e-12)


@BOTH
def test_the_adaptive_weight_is_the_papers_unless_told(objective):
  given = functools.partial(run, objective, stretched(1.3), batch(FLOW))
  default, _ = given(distil=True)
  paper, _ = given(distil=True, p=1.0, c=0.01)
  np.testing.assert_array_equal(default, paper)


# --- Guidance ---------------------------------------------------------------


def guided(scale, low=0.0, high=1.0):
  return Roles(student=PAIR.student(scale, low, high), teacher=PAIR.velocity)


@pytest.mark.parametrize('interval', [(0.0, 1.0), (0.3, 0.6)])
@pytest.mark.parametrize(
  ('omega', 'kappa'), [(2.0, 0.0), (1.0, 0.5), (0.6, 0.7)]
)
def test_guidance_ends_at_the_map_guided_by_omega_over_one_minus_kappa(
  omega, kappa, interval
):
  """Pointwise, also where the condition was dropped, and only there."""
  low, high = interval
  options = {
    'distil': True,
    'times': TIMES,
    'guidance': omega,
    'kappa': kappa,
    'guidance_low': low,
    'guidance_high': high,
  }

  def loss(scale, low=low, high=high):
    data = PAIR.batch(N, dropped=16)
    nets = guided(scale, low, high)
    return run(mean_flow, nets, data, **options, **PLAIN)[0]

  scale = omega / (1 - kappa)
  np.testing.assert_array_less(np.sqrt(loss(scale)), 1e-8)
  other = np.sqrt(loss(scale + 0.5))
  assert np.quantile(other[:48], 0.75) > 1e-2
  np.testing.assert_array_less(other[48:], 1e-8)
  if interval != (0.0, 1.0):
    assert np.max(np.sqrt(loss(scale, low=0.4))) > 1e-2
    assert np.max(np.sqrt(loss(scale, high=0.5))) > 1e-2


def counted(student):
  asked = []

  def u(x, t, s, cond):
    asked.append((t, s, cond))
    return student(x, t, s, cond)

  return Roles(student=u, teacher=PAIR.velocity), asked


@pytest.mark.parametrize(
  ('options', 'calls'),
  [
    ({}, 1),
    ({'guidance': 2.0}, 2),
    ({'kappa': 0.5}, 3),
    ({'guidance': 2.0, 'kappa': 0.5}, 3),
  ],
)
def test_only_what_guidance_needs_is_asked(options, calls):
  nets, asked = counted(PAIR.student(1.0, 0.0, 1.0))
  data = PAIR.batch(N)
  if not options:
    del data['null']
  run(mean_flow, nets, data, **options)
  assert len(asked) == calls


@pytest.mark.parametrize('kappa', [0.0, 0.5])
def test_nothing_is_learnt_through_the_guided_target(kappa):
  """Only the velocities at s = t depend on a, and the jumps do not use them."""

  def loss(a):
    def student(x, t, s, cond):
      u = PAIR.student(1.5, 0.0, 1.0)(x, t, s, cond)
      return jnp.where(expand(s == t, x), a, 1.0) * u

    options = {'times': at(0.9, 0.4), 'guidance': 2.0, 'kappa': kappa}
    nets = Roles(student=student)
    return jnp.sum(run(mean_flow, nets, PAIR.batch(N), **options)[0])

  assert jax.grad(loss)(1.2) == 0
  assert loss(1.2) != loss(1.0)


INTERVALS = pytest.mark.parametrize('middle', [0.5, 0.2, None])
NAMES = ('guidance', 'guidance_low', 'guidance_high')


def conditioned_student(x, t, s, cond):
  """The exact map of the guidance that it is conditioned on."""
  scale, low, high = (
    cond.get(name, other)
    for name, other in zip(NAMES, (1.0, 0.0, 1.0), strict=True)
  )
  return PAIR.student(scale, low, high)(x, t, s, cond)


@INTERVALS
def test_the_student_that_does_as_it_is_told_has_no_residual(middle):
  law = functools.partial(guidance.uniform, low=1.0, high=4.0)
  options = {'distil': True, 'times': TIMES, 'guidance': law, 'middle': middle}

  def loss(student):
    nets = Roles(student=student, teacher=PAIR.velocity)
    data = PAIR.batch(N, dropped=16)
    return run(improved_mean_flow, nets, data, **options, **PLAIN)[0]

  def stubborn(x, t, s, cond):
    return conditioned_student(
      x, t, s, {**cond, 'guidance': cond['guidance'] + 0.5}
    )

  np.testing.assert_array_less(np.sqrt(loss(conditioned_student)), 1e-8)
  assert np.quantile(np.sqrt(loss(stubborn)), 0.75) > 1e-2


@INTERVALS
def test_guidance_is_told_as_it_is_drawn(middle):
  nets, asked = counted(lambda x, t, s, cond: x)
  data = PAIR.batch(N, dropped=16)
  law = functools.partial(guidance.uniform, low=2.0, high=4.0)
  options = {'times': TIMES, 'guidance': law, 'middle': middle}
  improved_mean_flow(nets, data, KEY, 0, **options)
  now, null, jump = (cond for _, _, cond in asked)
  for cond in (now, null):
    assert set(cond) == set(jump)
    if middle is not None:
      np.testing.assert_array_equal(cond['guidance_low'], 0)
      np.testing.assert_array_equal(cond['guidance_high'], 1)
  np.testing.assert_array_equal(null['guidance'], 1)
  np.testing.assert_array_equal(null['label'], 0)
  scale = jump['guidance']
  assert 2 <= jnp.min(scale) < 2.3 and 3.7 < jnp.max(scale) <= 4
  if middle is None:
    assert set(jump) == {'label', 'guidance'}
    np.testing.assert_array_equal(now['guidance'], scale)
    return
  t, s = asked[0][0], asked[-1][1]
  low, high = jump['guidance_low'], jump['guidance_high']
  inside = (low <= t) & (t <= high)
  np.testing.assert_array_equal(now['guidance'], jnp.where(inside, scale, 1))
  np.testing.assert_array_equal(low[s == t], 0)
  np.testing.assert_array_equal(high[s == t], 1)
  low, high = low[s < t], high[s < t]
  assert 0 <= jnp.min(low) < 0.1 and middle - 0.1 < jnp.max(low) <= middle
  assert middle <= jnp.min(high) < middle + 0.1 and 0.9 < jnp.max(high) <= 1
  assert abs(jnp.corrcoef(low, high)[0, 1]) < 0.5


def test_the_ends_of_the_interval_are_inside():
  """At t = s = 0 it is [0, 1]."""
  nets, asked = counted(lambda x, t, s, cond: x)
  options = {
    'times': lambda key, n: (jnp.zeros(n), jnp.zeros(n)),
    'guidance': functools.partial(guidance.fixed, scale=3.0),
  }
  improved_mean_flow(nets, PAIR.batch(N, dropped=0), KEY, 0, **options)
  np.testing.assert_array_equal(asked[0][2]['guidance'], 3)


def test_without_a_law_the_improved_one_tells_nothing():
  nets, asked = counted(PAIR.student(1.0, 0.0, 1.0))
  data = PAIR.batch(N)
  del data['null']
  run(improved_mean_flow, nets, data)
  assert [set(cond) for _, _, cond in asked] == [{'label'}, {'label'}]


def test_the_improved_target_gets_no_gradient():
  def loss(a):
    def student(x, t, s, cond):
      u = conditioned_student(x, t, s, cond)
      return jnp.where(expand(s == t, x), a, 1.0) * u

    options = {'times': at(0.9, 0.4), 'guidance': guidance.fixed}
    nets = Roles(student=student)
    return jnp.sum(run(improved_mean_flow, nets, PAIR.batch(N), **options)[0])

  assert jax.grad(loss)(1.2) == 0
  assert loss(1.2) != loss(1.0)


@pytest.mark.parametrize(
  ('objective', 'options', 'message'),
  [
    (mean_flow, {'kappa': 1.0}, r'kappa = 1.0 must lie in \[0, 1\)'),
    (mean_flow, {'c': 0.0}, 'c = 0.0 must be above 0'),
    (mean_flow, {'guidance_low': -1}, 'guidance_low = -1 must lie in'),
    (
      mean_flow,
      {'guidance_low': 0.5, 'guidance_high': 0.4},
      r'guidance_high = 0.4 must lie in \[0.5, 1\]',
    ),
    (improved_mean_flow, {'middle': 1.5}, 'middle = 1.5 must lie in'),
  ],
)
def test_an_option_out_of_range_is_named(objective, options, message):
  law = {'guidance': 2.0 if objective is mean_flow else guidance.uniform}
  with pytest.raises(ValueError, match=message):
    objective(guided(1.0), PAIR.batch(N), KEY, 0, **law, **options)


@pytest.mark.parametrize(
  ('objective', 'law'),
  [(mean_flow, 2.0), (improved_mean_flow, guidance.uniform)],
)
def test_guidance_without_a_condition_is_refused(objective, law):
  with pytest.raises(ValueError, match='guidance needs a condition'):
    objective(exact(FLOW), batch(FLOW), KEY, 0, guidance=law)


@BOTH
def test_a_missing_teacher_names_the_key_that_fills_it(objective):
  alone = Roles(student=FLOW.average_velocity)
  with pytest.raises(MissingRole, match=r'frozen\.teacher'):
    objective(alone, batch(FLOW), KEY, 0, distil=True)
