"""Guided flows of Gaussians are linear, so their maps are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.flow.guidance import uniform
from flowdistill.flow.transport import expand
from flowdistill.objectives import ayf_emd, ayf_lmd
from flowdistill.objectives.guided import guided_teacher
from flowdistill.objectives.roles import MissingRole, Roles

pytestmark = pytest.mark.usefixtures('x64')
STRONG, WORSE = PAIR = Gaussian(std=0.5), Gaussian(std=0.8)
KEY = jax.random.key(0)
N = 64
EXACT = {'max_r': 1.0, 'warmup_steps': 0, 'c': None}
BOTH = pytest.mark.parametrize('objective', [ayf_emd, ayf_lmd])
AGAINST = pytest.mark.parametrize('against', ['weak', 'null'])


def batch():
  """Condition 1 is the better flow, condition 0, without one, the worse."""
  x0 = STRONG.std * np.random.default_rng(0).normal(size=(N, 3))
  return {
    'x0': jnp.asarray(x0),
    'cond': {'label': jnp.ones(N, int)},
    'null': {'label': jnp.zeros(N, int)},
  }


def teacher(x, t, cond):
  better, worse = STRONG.velocity(x, t), WORSE.velocity(x, t)
  return jnp.where(expand(cond['label'], x) == 1, better, worse)


def student(x, t, s, cond):
  """The map of λ v + (1 − λ) v_worse: a product of powers of both."""
  ratio, of_worse = (f.variance(s) / f.variance(t) for f in (STRONG, WORSE))
  scale = cond['guidance']
  f = ratio ** (scale / 2) * of_worse ** ((1 - scale) / 2)
  return expand((f - 1) / (s - t), x) * x


def nets(**other):
  def weak(x, t, cond):
    return WORSE.velocity(x, t)

  return Roles({'student': student, 'teacher': teacher, 'weak': weak} | other)


def scale_of(value):
  return lambda key, n: jnp.full(n, value)


@BOTH
@AGAINST
@pytest.mark.parametrize('law', [scale_of(0.5), scale_of(3.0), uniform])
def test_the_exact_map_of_the_guided_flow_has_no_tangent(
  objective, against, law
):
  options = {'guidance': law, 'against': against, **EXACT}
  loss, _ = objective(nets(), batch(), KEY, 0, **options)
  np.testing.assert_array_less(np.sqrt(loss), 1e-8)


@BOTH
@AGAINST
@pytest.mark.parametrize(('low', 'high'), [(0.2, 0.6), (0.5, 1.0), (0.0, 0.3)])
def test_the_exact_map_of_a_flow_that_is_guided_in_an_interval(
  objective, against, low, high
):
  def told(x, t, s, cond):
    start, end = (jnp.clip(edge, s, t) for edge in (high, low))
    of_good, of_worse = (f.variance(end) / f.variance(start) for f in PAIR)
    more = (of_good / of_worse) ** ((cond['guidance'] - 1) / 2)
    f = (STRONG.variance(s) / STRONG.variance(t)) ** 0.5 * more
    return expand((f - 1) / (s - t), x) * x

  options = {'guidance': scale_of(3.0), 'against': against, **EXACT}
  inside = {'guidance_low': low, 'guidance_high': high}
  loss, _ = objective(nets(student=told), batch(), KEY, 0, **options, **inside)
  np.testing.assert_array_less(np.sqrt(loss), 1e-8)
  loss, _ = objective(nets(student=told), batch(), KEY, 0, **options)
  assert np.sqrt(loss).max() > 1e-2


@BOTH
@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'guidance_low': -0.1}, r'^guidance_low = -0.1 must lie in \[0, 1\]'),
    ({'guidance_low': 0.5, 'guidance_high': 0.4}, '^guidance_high = 0.4 must'),
    ({'guidance': None, 'guidance_low': 0.5}, 'have no effect: guidance = No'),
  ],
)
def test_an_interval_that_cannot_be(objective, options, message):
  with pytest.raises(ValueError, match=message):
    objective(nets(), batch(), KEY, 0, **{'guidance': uniform, **options})


@BOTH
@AGAINST
def test_the_map_of_another_scale_has_a_tangent(objective, against):
  def told(x, t, s, cond):
    return student(x, t, s, {**cond, 'guidance': cond['guidance'] + 0.5})

  options = {'guidance': uniform, 'against': against, **EXACT}
  loss, _ = objective(nets(student=told), batch(), KEY, 0, **options)
  assert np.median(np.sqrt(loss)) > 1e-2


def test_the_student_is_told_the_scale_and_the_teacher_is_not():
  asked = {}

  def teacher(x, t, cond):
    asked['teacher'] = set(cond)
    return x

  _, cond = guided_teacher(nets(teacher=teacher), batch(), KEY, uniform, 'null')
  assert set(cond) == {'label', 'guidance'}
  np.testing.assert_array_equal(cond['guidance'], uniform(KEY, N))
  v, _ = guided_teacher(nets(teacher=teacher), batch(), KEY, uniform, 'null')
  v(batch()['x0'], jnp.ones(N))
  assert asked == {'teacher': {'label'}}


def test_without_guidance_nothing_but_the_teacher_is_asked():
  alone = Roles(teacher=teacher)
  v, cond = guided_teacher(alone, batch(), KEY, None, 'weak')
  assert set(cond) == {'label'}
  x, t = batch()['x0'], jnp.full(N, 0.3)
  np.testing.assert_array_equal(v(x, t), STRONG.velocity(x, t))


@pytest.mark.parametrize('guidance', [None, uniform])
def test_nothing_is_learnt_through_the_teacher(guidance):
  def speed(scale):
    def moved(x, t, cond):
      return scale * x

    v, _ = guided_teacher(nets(teacher=moved), batch(), KEY, guidance, 'null')
    return jnp.sum(v(batch()['x0'], jnp.ones(N)))

  assert jax.grad(speed)(1.0) == 0


def test_an_unknown_opponent_is_named():
  with pytest.raises(ValueError, match=r"against = 'weaker' must be one of"):
    guided_teacher(nets(), batch(), KEY, uniform, 'weaker')


def test_a_weak_network_that_is_missing_names_its_key():
  alone = Roles(student=student, teacher=teacher)
  with pytest.raises(MissingRole, match=r'frozen\.weak'):
    ayf_emd(alone, batch(), KEY, 0, guidance=uniform)
