"""TwinFlow on flows that are known: what its terms learn, and where it ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.recursions import (
  CONDITIONAL,
  DIMS,
  UNCONDITIONAL,
  N,
  batch,
  guided,
  noted,
  of_label,
  only,
)
from oracle import Gaussian, Mixture

from flowdistill.flow.losses import mean_square
from flowdistill.flow.transport import expand
from flowdistill.flow.weighting import uniform
from flowdistill.objectives.branches import Kinds
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.twinflow import twinflow

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
FLOWS = pytest.mark.parametrize('flow', [Gaussian(), Mixture()])
PLAIN = {'clip': None, 'matching_clip': None, 'loss': 'l2', 'weight': uniform}
EVERY = Kinds(one=1.0)
IDLE = {'matching': 0.0}


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
