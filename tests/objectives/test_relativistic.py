"""The relativistic discriminator, its penalties, and the fakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.flow.guidance import fixed
from flowdistill.objectives import relativistic
from flowdistill.objectives.fakes import Fakes
from flowdistill.objectives.relativistic import with_penalty
from flowdistill.objectives.roles import Roles

pytestmark = pytest.mark.usefixtures('x64')
KEY, N = jax.random.key(0), 6
X0 = np.random.default_rng(0).normal(size=(N, 3))
BATCH = {'x0': X0, 'cond': {}, 'null': {}}
PLAIN = {'r1': 0.0, 'r2': 0.0}


def bent(x, cond):
  """A discriminator; the last term couples the examples of a batch."""
  return jnp.sin(x).sum(1) + 0.3 * x[:, 0] ** 3 + jnp.square(x).mean()


def still(x, t, s, cond):
  """A student whose one step from noise z ends at 0."""
  return x / jnp.reshape(t, (-1, 1))


def nets(critic=bent, student=still):
  return Roles(discriminator=critic, student=student)


def test_the_loss_of_fixed_logits():
  """Every fake is 0, and has the logit 0.25."""

  def critic(x, cond):
    return jnp.where(jnp.any(x != 0, axis=1), jnp.arange(N) - 2.0, 0.25)

  loss, metrics = relativistic(nets(critic), BATCH, KEY, 0, **PLAIN)
  expected = np.log1p(np.exp(0.25 - (np.arange(N) - 2.0)))
  np.testing.assert_allclose(loss, expected)
  assert float(metrics['real']) == pytest.approx(0.5)
  assert float(metrics['fake']) == pytest.approx(0.25)
  assert float(metrics['penalty']) == 0


def by_differences(x, h=1e-5):
  """‖∇ Σ D‖² of each example."""
  x, slopes = jnp.asarray(x), np.zeros(x.shape)
  for i in np.ndindex(x.shape):
    ahead, behind = (bent(x.at[i].add(d), {}).sum() for d in (h, -h))
    slopes[i] = (ahead - behind) / (2 * h)
  return (slopes**2).sum(1)


def test_a_penalty_against_finite_differences():
  logits, penalty = with_penalty(bent, X0, {}, 0.3)
  np.testing.assert_allclose(logits, bent(X0, {}))
  np.testing.assert_allclose(penalty, 0.15 * by_differences(X0), rtol=1e-7)


def test_r1_is_at_the_data_and_r2_at_the_fakes():
  base, _ = relativistic(nets(), BATCH, KEY, 0, **PLAIN)
  first, _ = relativistic(nets(), BATCH, KEY, 0, r1=0.2, r2=0.0)
  second, _ = relativistic(nets(), BATCH, KEY, 0, r1=0.0, r2=0.2)
  both, metrics = relativistic(nets(), BATCH, KEY, 0, r1=0.2, r2=0.2)
  np.testing.assert_allclose(first - base, 0.1 * by_differences(X0), rtol=1e-6)
  at_zero = 0.1 * by_differences(np.zeros_like(X0))
  np.testing.assert_allclose(second - base, at_zero, rtol=1e-6)
  np.testing.assert_allclose(both - base, first + second - 2 * base)
  assert float(metrics['penalty']) == pytest.approx(float((both - base).mean()))


def test_lazy_penalties_have_the_same_mean():
  options = {'r1': 0.2, 'r2': 0.1}
  every, _ = relativistic(nets(), BATCH, KEY, 0, **options)
  without, _ = relativistic(nets(), BATCH, KEY, 0, **PLAIN)
  lazily = [
    relativistic(nets(), BATCH, KEY, step, penalty_every=3, **options)[0]
    for step in range(3)
  ]
  np.testing.assert_allclose(lazily[1], without)
  np.testing.assert_allclose(lazily[2], without)
  np.testing.assert_allclose(np.mean(lazily, axis=0), every)


def test_the_student_gets_no_gradient():
  def loss(a):
    made = nets(student=lambda x, t, s, cond: a * x)
    return relativistic(made, BATCH, KEY, 0)[0].sum()

  assert float(jax.grad(loss)(0.5)) == 0


@pytest.mark.parametrize(
  ('nfe', 'gamma'), [(1, 0.0), (2, 0.0), (3, 0.5), (2, 1.0)]
)
def test_fakes_of_the_exact_map_are_distributed_as_the_data(nfe, gamma):
  flow = Gaussian(std=0.5)
  fakes = Fakes(nfe=nfe, gamma=gamma)
  x = fakes.draw(flow.average_velocity, KEY, jnp.zeros((40_000, 1)), {})
  assert float(x.std()) == pytest.approx(0.5, rel=0.02)


def test_the_last_jump_alone_has_a_gradient_and_sees_the_guidance():
  seen = []

  def u(x, t, s, cond):
    seen.append((float(t[0]), float(s[0]), float(cond['guidance'][0])))
    return x

  law = functools.partial(fixed, scale=2.0)
  Fakes(nfe=2, guidance=law).draw(u, KEY, X0, {})
  assert seen == [(1.0, 0.5, 2.0), (0.5, 0.0, 2.0)]

  def total(a):
    made = Fakes(nfe=2).draw(lambda x, t, s, cond: a * x, KEY, X0, {})
    return made[0, 0]

  z = jax.random.normal(jax.random.split(KEY, 3)[0], X0.shape, X0.dtype)[0, 0]
  # x = (1 − a/2)² z; of the first factor there is no gradient.
  assert float(jax.grad(total)(0.4)) == pytest.approx(float(-0.5 * 0.8 * z))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'r1': -1.0}, 'r1 = -1.0 must be at least 0'),
    ({'r2': -1.0}, 'r2 = -1.0 must be at least 0'),
    ({'penalty_every': 0}, 'penalty_every = 0 must be at least 1'),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    relativistic(nets(), BATCH, KEY, 0, **options)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'nfe': 0}, 'nfe = 0 must be at least 1'),
    ({'nfe': 2, 'gamma': 1.5}, r'gamma = 1.5 must lie in \[0, 1\]'),
    ({'gamma': 0.5}, 'gamma = 0.5 must be 0 for nfe = 1'),
  ],
)
def test_fakes_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    Fakes(**options)
