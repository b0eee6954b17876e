"""Distillation and SlimFlow's flow guidance, on flows known in closed form."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture

from flowdistill.flow.times import grid
from flowdistill.flow.transport import expand
from flowdistill.objectives import distillation
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
N = 64
FLOWS = pytest.mark.parametrize('flow', [Gaussian(), Mixture()])
OFF = {'regulariser': 0.0}


@dataclasses.dataclass(frozen=True)
class Straight:
  """The straight flow between the two ends of the paths of another.

  That is what reflow makes of it. v(x, t) = z − T(z), with T the flow map from
  noise to data and z the noise where (1 − t) T(z) + t z = x, by bisection.
  """

  flow: Any

  def ends(self, z):
    return self.flow.flow_map(z, jnp.ones(len(z)), jnp.zeros(len(z)))

  @functools.partial(jax.jit, static_argnums=0)
  def velocity(self, x, t, cond=None):
    t = expand(t, x)

    def halve(_, bracket):
      low, high = bracket
      z = (low + high) / 2
      under = (1 - t) * self.ends(z) + t * z < x
      return jnp.where(under, z, low), jnp.where(under, high, z)

    bracket = jnp.full_like(x, -9.0), jnp.full_like(x, 9.0)
    z = jax.lax.fori_loop(0, 55, halve, bracket)[0]
    return z - self.ends(z)

  def average_velocity(self, x, t, s, cond=None):
    return self.velocity(x, t)


@functools.cache
def pairs(flow, shape=(2,)):
  """Noise and where the flow takes it."""
  x1 = jnp.asarray(np.random.default_rng(0).normal(size=(N, *shape)))
  x0 = flow.flow_map(x1, jnp.ones(N), jnp.zeros(N))
  return {'x0': x0, 'x1': x1, 'cond': {}, 'null': {}}


def at(t):
  return lambda key, n: jnp.broadcast_to(t, n)


def scaled(a):
  """The student v = a x, whatever the times."""
  return lambda x, t, s, cond: a * x


class Noted(list):
  """A network that records its inputs."""

  def __init__(self, network):
    super().__init__()
    self.network = network

  def __call__(self, *inputs):
    self.append(inputs)
    return self.network(*inputs)


@FLOWS
@pytest.mark.parametrize('shape', [(1,), (2, 2, 1)])
def test_the_exact_map_is_where_it_ends(flow, shape):
  data = pairs(flow, shape)

  @jax.jit
  def losses_and_slopes(offset):
    def losses(offset):
      def student(*inputs):
        return flow.average_velocity(*inputs) + offset

      return distillation(Roles(student=student), data, KEY, 0, **OFF)[0]

    return jax.jvp(losses, (offset,), (1.0,))

  exact, _ = losses_and_slopes(0.0)
  assert exact.shape == (N,)
  np.testing.assert_array_less(exact, 1e-20)
  for offset in (-0.3, 0.3):  # a mean over the pixels: the same for any shape
    losses, slopes = losses_and_slopes(offset)
    np.testing.assert_allclose(losses, 0.09, rtol=1e-6)
    np.testing.assert_allclose(slopes, 2 * offset, rtol=1e-6)


@FLOWS
def test_k_steps_end_at_the_straight_flow(flow):
  """At any t of the grid; an error a in u is one of t a in the data."""
  student = Noted(lambda x, t, s, cond: Straight(flow).velocity(x, t) + error)
  for error in (0.0, 0.5):
    loss, metrics = distillation(
      Roles(student=student),
      pairs(flow),
      KEY,
      0,
      times=functools.partial(grid, steps=4),
      **OFF,
    )
    (_, t, s, _) = student[-1]
    np.testing.assert_allclose(loss, (error * t) ** 2, atol=1e-20)
    assert metrics == {}
  assert set(t.tolist()) == {0.25, 0.5, 0.75, 1.0}
  np.testing.assert_array_equal(s, 0)


def test_by_default_all_steps_begin_at_noise():
  student = Noted(scaled(0.5))
  data = pairs(Gaussian())
  distillation(Roles(student=student), data, KEY, 0, **OFF)
  ((x_t, t, s, _),) = student
  np.testing.assert_array_equal(x_t, data['x1'])
  np.testing.assert_array_equal(t, 1)
  np.testing.assert_array_equal(s, 0)


def test_the_weight_is_that_of_the_jump():
  t = jnp.linspace(0.1, 1, N)
  run = functools.partial(
    distillation,
    Roles(student=scaled(0.9), teacher=Gaussian().velocity),
    pairs(Gaussian()),
    KEY,
    0,
    times=at(t),
  )
  weight = {'weight': lambda t, s: 2 + t + 10 * s}
  plain, _ = run(**OFF)
  np.testing.assert_allclose(run(**weight, **OFF)[0], (2 + t) * plain)
  two_step = run()[0] - plain  # is not weighed
  np.testing.assert_allclose(run(**weight)[0], (2 + t) * plain + two_step)


@FLOWS
def test_the_solver_is_of_order_two(flow):
  def residual(steps):
    loss, _ = distillation(
      Roles(student=flow.average_velocity, teacher=flow.velocity),
      {'x0': jnp.full((N, 2), jnp.nan), 'cond': {}},  # of use by its shape
      KEY,
      0,
      solver_steps=steps,
      **OFF,
    )
    return np.sqrt(np.mean(loss))

  coarse, fine = residual(16), residual(32)
  assert 3.5 < coarse / fine < 4.5
  assert fine < 1e-3


def test_one_solver_step_by_hand():
  """x1 − (v(x1, 1) + v(x1 − v(x1, 1), 0)) / 2, of noise and not of the pair."""
  student = Noted(lambda x, t, s, cond: 0 * x)
  teacher = Noted(lambda x, t, cond: (0.5 + t[:, None]) * x)
  data = pairs(Gaussian())
  nets = Roles(student=student, teacher=teacher)
  loss, _ = distillation(nets, data, KEY, 0, solver_steps=1, **OFF)
  ((x1, *_),) = student
  x0 = x1 - (1.5 * x1 + 0.5 * (x1 - 1.5 * x1)) / 2
  np.testing.assert_allclose(loss, np.mean((x1 - x0) ** 2, 1), rtol=1e-12)
  assert abs(np.mean(x1)) < 0.3
  assert abs(np.std(x1) - 1) < 0.2
  assert np.min(np.abs(x1 - data['x1'])) > 0


@FLOWS
def test_the_two_step_term_ends_at_a_straight_flow(flow):
  """At 1 − τ, where the first step arrives, and not at τ."""
  straight = Straight(flow)

  def two_step(teacher):
    nets = Roles(student=straight.average_velocity, teacher=teacher)
    return distillation(nets, pairs(flow), KEY, 0)[1]['two_step']

  assert two_step(straight.velocity) < 1e-20
  mirrored = two_step(lambda x, t, cond: straight.velocity(x, 1 - t))
  assert mirrored > 1e-4


def two_step_of(a, rate=0.7, **options):
  """(L₂ [b], the student's and the teacher's calls) of v = a x and v_φ."""
  student = Noted(scaled(a))
  teacher = Noted(lambda x, t, cond: rate * x)
  data = pairs(Gaussian()) | {'x0': jnp.zeros((N, 2)), 'x1': jnp.zeros((N, 2))}
  nets = Roles(student=student, teacher=teacher)
  loss, _ = distillation(nets, data, KEY, 0, **options)  # L = 0 at x1 = 0
  return loss, student[1], teacher[0]


@pytest.mark.parametrize('tau', [0.0, 0.3, 1.0])
def test_the_two_step_term_by_hand(tau):
  """v_s − [τ v_s + (1 − τ) v_φ(x1 − τ v_s)], at a pinned τ."""
  loss, (x1, t, s, _), (x, arrived, _) = two_step_of(1.3, tau=(tau, tau))
  np.testing.assert_array_equal(t, 1)
  np.testing.assert_array_equal(s, 0)
  np.testing.assert_allclose(arrived, 1 - tau)
  np.testing.assert_allclose(x, (1 - tau * 1.3) * x1, rtol=1e-12)
  gap = 1.3 - (tau * 1.3 + (1 - tau) * 0.7 * (1 - tau * 1.3))
  expected = gap**2 * np.mean(np.asarray(x1) ** 2, 1)
  np.testing.assert_allclose(loss, expected, rtol=1e-9, atol=1e-12)


def test_its_noise_is_fresh_and_its_length_drawn_for_every_example():
  _, (x1, *_), (_, arrived, _) = two_step_of(1.0, tau=(0.2, 0.6))
  assert abs(np.mean(x1)) < 0.3
  assert abs(np.std(x1) - 1) < 0.2
  tau = 1 - np.asarray(arrived)
  assert 0.2 <= tau.min() < 0.25
  assert 0.55 < tau.max() <= 0.6
  _, _, (_, arrived, _) = two_step_of(1.0)
  assert 0.2 <= np.min(arrived) < 0.25 < 0.75 < np.max(arrived) <= 0.8


def test_the_gradient_goes_through_the_one_step_alone():
  """d/da of (a − c)² x1² at a frozen c, so slope over loss is 2 / (a − c)."""
  tau, a = 0.3, 1.3
  c = tau * a + (1 - tau) * 0.7 * (1 - tau * a)

  def losses(a):
    return two_step_of(a, tau=(tau, tau))[0]

  ratio = jax.jacobian(losses)(a) / losses(a)
  np.testing.assert_allclose(ratio, 2 / (a - c), rtol=1e-9)


def test_the_teacher_gets_no_gradient():
  def loss(rate):
    nets = Roles(
      student=scaled(0.9),
      teacher=lambda x, t, cond: rate * Gaussian().velocity(x, t),
    )
    data = pairs(Gaussian())
    return jnp.sum(distillation(nets, data, KEY, 0, solver_steps=2)[0])

  assert jax.grad(loss)(1.0) == 0


def test_the_regulariser_scales_the_two_step_term_and_0_asks_no_teacher():
  data, student = pairs(Gaussian()), scaled(0.9)

  def loss(regulariser, **teacher):
    nets = Roles(student=student, **teacher)
    return distillation(nets, data, KEY, 0, regulariser=regulariser)

  teacher = {'teacher': Gaussian().velocity}
  none, metrics = loss(0.0)
  assert metrics == {}
  once, metrics = loss(1.0, **teacher)
  np.testing.assert_allclose(np.mean(once - none), metrics['two_step'])
  assert metrics['two_step'] > 1e-3
  half, _ = loss(0.5, **teacher)
  np.testing.assert_allclose(half - none, (once - none) / 2)
  with pytest.raises(MissingRole, match=r'frozen\.teacher'):
    loss(1.0)


def test_all_networks_are_asked_under_the_condition_of_the_batch():
  data = pairs(Gaussian()) | {'cond': {'label': 3}, 'null': {'label': 9}}
  student = Noted(scaled(0.5))
  teacher = Noted(lambda x, t, cond: x)
  nets = Roles(student=student, teacher=teacher)
  distillation(nets, data, KEY, 0, solver_steps=1)
  assert [x[3] for x in student] == [{'label': 3}] * 2
  assert [x[2] for x in teacher] == [{'label': 3}] * 3


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (('l2',), 0.25),
    (('l1',), 0.5),
    (('lpips',), 7.0),
    (('lpips', 'l1'), 7.5),
    (('l2', 'lpips', 'l1'), 7.75),
  ],
)
@pytest.mark.parametrize('resize', [{}, {'resize': 32}, {'resize': None}])
def test_distances_add_up_in_both_terms(names, expected, resize):
  """A student that is off by 0.5 everywhere, in the pairs and in L₂."""
  seen = []

  def perceptual(x, y, resize):
    seen.append((x, y, resize))
    return jnp.full(len(x), 7.0)

  data = pairs(Gaussian(), (2, 2, 1))
  data = data | {'x0': data['x1'] - 1}  # a straight flow of v = 1
  nets = Roles(
    student=lambda x, t, s, cond: jnp.full_like(x, 1.5),
    teacher=lambda x, t, cond: jnp.ones_like(x),
    perceptual=perceptual,
  )
  options = {'distance': names, 'tau': (0.0, 0.0)} | resize
  loss, metrics = distillation(nets, data, KEY, 0, **options)
  np.testing.assert_allclose(loss, 2 * expected, rtol=1e-9)
  np.testing.assert_allclose(metrics['two_step'], expected, rtol=1e-9)
  assert len(seen) == 2 * ('lpips' in names)
  for x, y, side in seen:
    np.testing.assert_allclose(y - x, 0.5)
    assert side == resize.get('resize', 64)
  if seen:
    np.testing.assert_array_equal(seen[0][1], data['x0'])


def test_lpips_asks_for_its_weights():
  run = functools.partial(
    distillation, Roles(student=scaled(1.0)), pairs(Gaussian()), KEY, 0, **OFF
  )
  with pytest.raises(MissingRole, match=r"'frozen\.perceptual' to a file of"):
    run(distance=('l1', 'lpips'))
  run(distance=('l1', 'l2'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'distance': ()},
      r'distance = \(\) must name one or more of l2, l1, lpip',
    ),
    ({'distance': ('l2', 'l3')}, r"distance = \('l2', 'l3'\) must name"),
    ({'regulariser': -0.1}, 'regulariser = -0.1 must be at least 0'),
    ({'solver_steps': -1}, 'solver_steps = -1 must be at least 0'),
    ({'tau': (0.8, 0.2)}, r'tau = \(0.8, 0.2\) must be \(low, high\)'),
    ({'tau': (-0.1, 0.2)}, r'tau = \(-0.1, 0.2\) must'),
    ({'tau': (0.1, 1.2)}, r'tau = \(0.1, 1.2\) must'),
    ({'tau': (0.1,)}, r'tau = \(0.1,\) must'),
    ({'tau': ('0.1', 0.2)}, r"tau = \('0.1', 0.2\) must"),
  ],
)
def test_options_out_of_range(options, message):
  nets = Roles(student=scaled(1.0), teacher=Gaussian().velocity)
  with pytest.raises(ValueError, match=message):
    distillation(nets, pairs(Gaussian()), KEY, 0, **options)


def test_without_pairs_it_says_what_would_do():
  nets = Roles(student=scaled(1.0), teacher=Gaussian().velocity)
  data = {'x0': jnp.ones((4, 2)), 'cond': {}}
  with pytest.raises(ValueError, match='solver_steps = 0 needs pairs: .* x1'):
    distillation(nets, data, KEY, 0)
