"""Shortcut models, whose fixed point is a flow in M Euler steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guided_gaussians import GuidedGaussians
from oracle import Gaussian, Mixture

from flowdistill.flow.guidance import extrapolate
from flowdistill.flow.losses import squared_norm
from flowdistill.flow.transport import expand
from flowdistill.objectives import shortcut
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
FLOW, PAIR = Gaussian(std=0.5), GuidedGaussians()
KEY = jax.random.key(0)
N, M = 64, 8
FLOWS = pytest.mark.parametrize('flow', [Gaussian(0.5), Mixture()])


def batch(flow, n=N):
  x0 = flow.draw(np.random.default_rng(0), 2 * n).reshape(n, 2)
  return {'x0': jnp.asarray(x0), 'cond': {}, 'null': {}}


def run(nets, data, **options):
  return shortcut(nets, data, KEY, 0, **{'smallest': M, 'clip': None} | options)


def in_euler_steps(now, on_the_way):
  """u of the velocity `on_the_way` in steps of 1 / M, of `now` at s = t."""

  def u(x, t, s, cond):
    f = x
    for k in range(M, 0, -1):
      time = jnp.full_like(t, k / M)
      on = (s < time) & (time <= t)
      f = f - expand(on / M, x) * on_the_way(f, time, cond)
    still = expand(s == t, x)
    jump = (f - x) / jnp.where(still, 1, expand(s - t, x))
    return jnp.where(still, now(x, t, cond), jump)

  return u


def exact(flow, **other):
  u = in_euler_steps(flow.velocity, flow.velocity)
  return Roles({'student': u, 'ema': u, 'teacher': flow.velocity} | other)


def recorded(**nets):
  """Roles that record their inputs, by name."""
  asked = {name: [] for name in nets}

  def noting(name, u):
    def ask(*inputs):
      asked[name].append(inputs)
      return u(*inputs)

    return ask

  return Roles({k: noting(k, u) for k, u in nets.items()}), asked


@FLOWS
@pytest.mark.parametrize(
  ('share', 'target'),
  [(0.0, 'ema'), (0.25, 'ema'), (0.25, 'student'), (1.0, 'ema')],
)
def test_distilled_the_flow_in_euler_steps_has_no_residual(flow, share, target):
  options = {'distil': True, 'share': share, 'target': target}
  loss, _ = run(exact(flow), batch(flow), **options)
  assert loss.shape == (N,)
  np.testing.assert_array_less(np.sqrt(loss), 1e-12)


def test_the_flow_of_other_data_has_a_residual_in_both_parts():
  other = in_euler_steps(Gaussian(0.7).velocity, Gaussian(0.6).velocity)
  nets = exact(FLOW, student=other, ema=other)
  loss, _ = run(nets, batch(FLOW), distil=True)
  assert np.median(np.sqrt(loss[16:])) > 1e-2
  assert np.max(np.sqrt(loss[:16])) > 1e-2


@pytest.mark.parametrize(('steps', 'most'), [(8, 0.5), (1024, 5e-3)])
def test_the_exact_map_is_off_by_the_smallest_step_alone(steps, most):
  """All larger steps are halved exactly; 1 / M is Euler's, of order 1 / M."""
  u = FLOW.average_velocity
  nets, asked = recorded(student=u, ema=u, teacher=FLOW.velocity)
  options = {'distil': True, 'share': 1.0, 'smallest': steps}
  error = np.sqrt(run(nets, batch(FLOW), **options)[0])
  ((_, t, s, _),) = asked['student']
  smallest = np.asarray(jnp.round((t - s) * steps) == 2)
  np.testing.assert_array_less(error[~smallest], 1e-12)
  assert most / 10 < np.max(error[smallest]) < most


@FLOWS
@pytest.mark.parametrize('share', [0.0, 0.5])
def test_the_mean_gradient_turns_at_the_flow_in_euler_steps(flow, share):
  """Slopes in a of the loss of u + a φ, over their standard error."""
  n = 4000
  data, nets = batch(flow, n), exact(flow)

  def losses(a):
    def student(x, t, s, cond):
      return nets.student(x, t, s, cond) + a * x * expand(1 + t - s, x)

    return run(Roles({**nets, 'student': student}), data, share=share)[0]

  def slope(a):
    slopes = jax.jvp(losses, (a,), (1.0,))[1]
    return jnp.mean(slopes) / (jnp.std(slopes) / n**0.5 + 1e-9)

  assert abs(slope(0.0)) < 4
  assert slope(-0.3) < -6
  assert slope(0.3) > 6


def test_without_jumps_it_is_flow_matching():
  nets, asked = recorded(student=lambda x, t, s, cond: x**2)
  data = batch(FLOW)
  loss, metrics = run(nets, data, share=0.0)
  ((x_t, t, s, _),) = asked['student']
  np.testing.assert_array_equal(s, t)
  v = (x_t - data['x0']) / expand(t, x_t)  # x1 − x0
  np.testing.assert_allclose(loss, squared_norm(x_t**2 - v), rtol=1e-9)
  assert metrics == {}


@pytest.mark.parametrize(
  ('share', 'rows'), [(0.25, 16), (0.3, 19), (0.001, 1), (1.0, 64), (0.0, 0)]
)
def test_only_the_first_rows_pay_for_two_steps(share, rows):
  u = lambda x, *rest: x  # noqa: E731
  nets, asked = recorded(student=u, ema=u, teacher=u)
  run(nets, batch(FLOW), share=share, distil=True)
  sizes = {name: [len(ask[0]) for ask in asks] for name, asks in asked.items()}
  assert sizes == {
    'student': [N],
    'ema': [rows, rows] if rows else [],
    'teacher': [N - rows] if rows < N else [],
  }


def test_steps_are_dyadic_and_halved():
  nets, asked = recorded(
    student=lambda x, t, s, cond: x, ema=lambda x, t, s, cond: 0.5 * x
  )
  n = 1000
  _, metrics = run(nets, batch(FLOW, n), smallest=128)
  assert set(metrics) == {'jump'}
  ((x_t, t, s, _),) = asked['student']
  (x_1, t_1, s_1, _), (x_2, t_2, s_2, _) = asked['ema']
  np.testing.assert_array_equal(t[250:], s[250:])
  on_grid = set(np.asarray(t[250:]) * 128)
  assert on_grid <= set(range(1, 129)) and len(on_grid) > 120
  double = (t - s)[:250]
  powers, counts = np.unique(double, return_counts=True)
  np.testing.assert_array_equal(powers, 2.0 ** np.arange(-6, 1))
  assert (np.abs(counts - 250 / 7) <= 1).all()
  np.testing.assert_array_equal(t[:250] % double, 0)
  assert (s >= 0).all() and (t <= 1).all()
  shortest = double == 2 / 128
  assert len(set(np.asarray(t[:250][shortest]))) > 20
  np.testing.assert_array_equal(t_1, t[:250])
  np.testing.assert_array_equal(t_2, t_1 - double / 2)
  for begin, end in ((t_1, s_1), (t_2, s_2)):
    wanted = jnp.where(shortest, 0, double / 2)
    np.testing.assert_array_equal(begin - end, wanted)
  np.testing.assert_array_equal(x_1, x_t[:250])
  np.testing.assert_allclose(x_2, x_1 * (1 - expand(double, x_1) / 4))


def test_every_size_is_drawn_even_from_one_row():
  def size(key):
    asked = []

    def student(x, t, s, cond):
      asked.append(t - s)
      return x

    nets = Roles(student=student, ema=student)
    shortcut(nets, batch(FLOW, 1), key, 0, smallest=M, share=1.0)
    return float(asked[-1][0])

  keys = jax.random.split(KEY, 32)
  assert {size(key) for key in keys} == {0.25, 0.5, 1.0}


# --- Guidance ---------------------------------------------------------------


def guided(scale):
  """Jumps go along the guided velocity, step 0 has the one without."""

  def along(x, t, cond):
    worse = PAIR.velocity(x, t, {'label': jnp.zeros_like(cond['label'])})
    return extrapolate(PAIR.velocity(x, t, cond), worse, scale)

  return in_euler_steps(PAIR.velocity, along)


def some_dropped():
  data = PAIR.batch(N)
  return {**data, 'cond': {'label': (jnp.arange(N) % 3 > 0).astype(int)}}


@pytest.mark.parametrize('share', [0.25, 1.0])
def test_guidance_ends_at_the_guided_flow_in_euler_steps(share):
  options = {'distil': True, 'guidance': 2.5, 'share': share}

  def error(scale):
    u = guided(scale)
    nets = Roles(student=u, ema=u, teacher=PAIR.velocity)
    return np.sqrt(run(nets, some_dropped(), **options)[0])

  np.testing.assert_array_less(error(2.5), 1e-12)
  assert np.max(error(2.0)) > 1e-2


@pytest.mark.parametrize(('share', 'few'), [(0.25, 6), (1.0, 22), (0.03, 1)])
def test_guidance_is_asked_of_the_smallest_steps_alone(share, few):
  u = lambda x, *rest: x  # noqa: E731
  nets, asked = recorded(student=u, ema=u)
  run(nets, some_dropped(), guidance=2.5, share=share)
  first, worse, second, worse_again = asked['ema']
  assert len(worse[0]) == len(worse_again[0]) == few
  for ask, null in ((first, worse), (second, worse_again)):
    np.testing.assert_array_equal(null[0], ask[0][:few])
    np.testing.assert_array_equal(null[1], ask[1][:few])
    np.testing.assert_array_equal(null[2], ask[2][:few])
    np.testing.assert_array_equal(null[3]['label'], 0)
    assert (ask[1] > ask[2])[few:].all()


def test_without_guidance_null_is_not_asked_for():
  data = some_dropped()
  del data['null']
  u = guided(1.0)
  loss, _ = run(Roles(student=u, ema=u), data)
  assert np.isfinite(loss).all()


# --- Constants, gradients, errors -------------------------------------------


@pytest.mark.parametrize('clip', [4.0, 0.5, None])
def test_points_and_targets_are_clipped(clip):
  nets, asked = recorded(
    student=lambda x, t, s, cond: jnp.full_like(x, 9.0),
    ema=lambda x, t, s, cond: jnp.full_like(x, -8.0),
  )
  loss, _ = run(nets, batch(FLOW), share=1.0, clip=clip)
  target = -8.0 if clip is None else -clip
  np.testing.assert_allclose(loss, 2 * (9 - target) ** 2)
  (x, t, _, _), (middle, later, _, _) = asked['ema']
  wanted = x + 8 * expand(t - later, x)
  if clip is not None:
    assert jnp.max(wanted) > clip
    wanted = jnp.clip(wanted, -clip, clip)
  np.testing.assert_allclose(middle, wanted)


def test_the_clip_is_that_of_the_code_unless_told():
  nets = Roles(
    student=lambda x, t, s, cond: jnp.zeros_like(x),
    ema=lambda x, t, s, cond: jnp.full_like(x, 9.0),
  )
  loss, _ = shortcut(nets, batch(FLOW), KEY, 0, share=1.0)
  np.testing.assert_allclose(loss, 2 * 4.0**2)


def test_the_targets_are_frozen():
  """With the student's own targets the slope is as with a frozen copy's."""

  def losses(a, **options):
    def student(x, t, s, cond):
      return a * x

    nets = Roles(student=student, ema=lambda x, t, s, cond: 1.3 * x)
    return jnp.sum(run(nets, batch(FLOW), share=1.0, **options)[0])

  slopes = [
    jax.grad(functools.partial(losses, target=target))(1.3)
    for target in ('student', 'ema')
  ]
  assert slopes[0] == slopes[1] != 0


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'smallest': 100}, 'smallest = 100 must be a power of two'),
    ({'smallest': 1}, 'smallest = 1 must be a power of two, at least 2'),
    ({'smallest': 0}, 'smallest = 0 must be'),
    ({'share': 1.5}, r'share = 1.5 must lie in \[0, 1\]'),
    ({'target': 'teacher'}, "target = 'teacher' must be one of"),
  ],
)
def test_an_option_out_of_range_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    run(exact(FLOW), batch(FLOW), **options)


def test_two_steps_are_the_fewest():
  nets, data = exact(FLOW), batch(FLOW)
  assert jnp.isfinite(run(nets, data, share=1.0, smallest=2)[0]).all()


def test_a_missing_role_names_the_key_that_fills_it():
  alone = Roles(student=FLOW.average_velocity)
  with pytest.raises(MissingRole, match=r'ema\.main'):
    run(alone, batch(FLOW))
  with pytest.raises(MissingRole, match=r'frozen\.teacher'):
    run(alone, batch(FLOW), distil=True, target='student')
