"""What diagnostics say of flows that are known in closed form."""

import json

import numpy as np
import pytest
from evaluators.fakes import Flow, InPixels, digits, points
from oracle import Gaussian, Mixture

from flowdistill.evaluators.boundary import boundary
from flowdistill.evaluators.semigroup import semigroup
from flowdistill.evaluators.states import states
from flowdistill.evaluators.straightness import straightness

GAUSSIAN = Gaussian(std=0.4)
DATA, PIXELS = points(1000), InPixels()
N = 4000


def row(evaluator, u, source=DATA, **options):
  """The one row of a student u(x_t, t, s, cond)."""
  models = {'student': Flow(u)}
  (found,) = evaluator(models, source, None, None, **options)
  assert json.loads(json.dumps(found)) == found
  return found


def constant(velocity):
  """A model of one velocity everywhere, times a function of (t, s)."""
  return lambda x, t, s, cond: velocity(t, s)[:, None] * np.ones_like(x)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('flow', [GAUSSIAN, Mixture()])
def test_an_exact_flow_map_is_a_semigroup(flow):
  found = row(semigroup, flow.average_velocity, samples=60, seed=3)
  assert found == {
    'model': 'student',
    'samples': 60,
    'seed': 3,
    'semigroup_error': pytest.approx(0, abs=1e-9),
  }


def test_how_much_two_jumps_miss_one():
  """For u = t − s: f = x − (t − s)², and two jumps miss by 2 (t − r)(r − s).

  The gaps of three uniform times have E[(t − r)(r − s)] = 1 / 20 and
  E[(t − s)²] = 3 / 10, so the error is 1 / 3.
  """
  found = row(semigroup, constant(lambda t, s: t - s), samples=N)
  assert found['semigroup_error'] == pytest.approx(1 / 3, abs=0.01)


def test_jumps_go_down_from_real_states():
  model = Flow(GAUSSIAN.average_velocity)
  list(semigroup({'weak': model}, DATA, None, None, role='weak', samples=50))
  one, first, second = model.asked
  t, r, s = first['t'], first['s'], second['s']
  assert (t <= 1).all() and (t > r).all() and (r > s).all() and (s >= 0).all()
  np.testing.assert_array_equal(one['t'], t)
  np.testing.assert_array_equal(one['s'], s)
  np.testing.assert_array_equal(second['t'], r)
  np.testing.assert_array_equal(one['x_t'], states(PIXELS, DATA, t, 0)[0])
  np.testing.assert_array_equal(one['x_t'], first['x_t'])
  np.testing.assert_allclose(
    second['x_t'],
    GAUSSIAN.flow_map(first['x_t'], t, r),
    atol=1e-5,
  )


def teacher_and(u):
  """`u` as a student of the Gaussian flow."""

  def v(x, t, s, cond):
    return GAUSSIAN.velocity(x, t, cond)

  return {'student': Flow(u), 'teacher': Flow(v)}


def test_a_student_that_stands_still_is_its_teacher():
  models = teacher_and(GAUSSIAN.average_velocity)
  rows = list(boundary(models, DATA, None, None, samples=50, seed=1))
  assert [found.get('t') for found in rows] == [None, 0.1, 0.5, 0.9, 1.0]
  for found in rows:
    assert found['boundary_error'] == pytest.approx(0, abs=1e-5)
    assert (found['model'], found['samples'], found['seed']) == (
      'student',
      50,
      1,
    )


def test_how_much_a_student_differs_from_its_teacher_and_where():
  """Half the velocity above t = ½, and 1.25 times it below."""

  def u(x, t, s, cond):
    wrong = np.where(np.asarray(t) > 0.5, 0.5, 1.25)
    return wrong[:, None] * GAUSSIAN.average_velocity(x, t, s)

  rows = boundary(teacher_and(u), DATA, None, None, times=(0.2, 0.7), samples=N)
  whole, low, high = (found['boundary_error'] for found in rows)
  assert (low, high) == (pytest.approx(0.25), pytest.approx(0.5))
  # Of E‖v‖, for data N(0, 1) on the way, this share lies above ½.
  t = np.linspace(0, 1, 2001)
  v = np.abs(GAUSSIAN.rate(t)) * np.hypot(1 - t, t)
  above = v[t > 0.5].sum() / v.sum()
  assert whole == pytest.approx(0.25 + 0.25 * above, abs=0.01)


def test_students_and_teachers_are_asked_the_same():
  models = teacher_and(GAUSSIAN.average_velocity)
  list(boundary(models, DATA, None, None, times=(0.3,), samples=20))
  for ours, theirs in zip(
    models['student'].asked, models['teacher'].asked, strict=True
  ):
    np.testing.assert_array_equal(ours['x_t'], theirs['x_t'])
    np.testing.assert_array_equal(ours['t'], ours['s'])
  assert set(ours['t']) == {0.3}


@pytest.mark.usefixtures('x64')
def test_how_straight_a_gaussian_flow_is():
  """S = d c (2 − π / 2), times the variance of the noise.

  z_t = √V_t z1, so that z1 − z0 = (1 − c) z1 and ż_t = (√V_t)' z1, and
  (√V)'² = 1 + c² − c² / V, whose integral is 1 + c² − c π / 2.
  """
  for steps, error in ((16, 1e-3), (128, 1e-5)):
    found = row(
      straightness, GAUSSIAN.average_velocity, steps=steps, samples=N, seed=5
    )
    x1, _ = states(PIXELS, DATA, np.ones(N), 5)
    power = np.square(x1, dtype=np.float64).sum() / N
    exact = 0.4 * (2 - np.pi / 2) * power
    assert found['straightness'] == pytest.approx(exact, abs=4 * error)
    assert abs(found['straightness'] - exact) > error / 100  # not by chance
  assert power == pytest.approx(2, rel=0.05)
  assert (found['steps'], found['samples']) == (128, N)


def test_a_straight_flow_has_no_curvature():
  found = row(straightness, constant(lambda t, s: np.full(len(t), 3.0)))
  assert found['straightness'] == pytest.approx(0, abs=1e-9)


def test_one_step_is_straight_whatever_the_flow():
  """One velocity, that of the middle, is all that there is."""
  found = row(straightness, GAUSSIAN.average_velocity, steps=1)
  assert found['straightness'] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize('evaluator', [semigroup, straightness, boundary])
def test_a_network_may_be_conditioned_on_guidance(evaluator):
  source = digits()
  models = {
    role: Flow(GAUSSIAN.average_velocity, (8, 8, 1))
    for role in ('student', 'teacher')
  }
  options = {'samples': 5, 'guidance': 1.5}
  rows = list(evaluator(models, source, None, None, **options))
  assert {found['options'] for found in rows} == {'guidance=1.5'}
  cond = models['student'].asked[0]['cond']
  assert {
    name: set(rows) for name, rows in cond.items() if name != 'label'
  } == {
    'guidance': {1.5},
    'guidance_low': {0},
    'guidance_high': {1},
  }
  assert {len(rows) for rows in cond.values()} == {5}
  (found, *_) = evaluator(models, source, None, None, samples=5)
  assert 'options' not in found
  assert set(models['student'].asked[-1]['cond']['guidance']) == {1}


def test_states_are_of_the_data_with_its_labels():
  source = digits()
  x0, cond = states(PIXELS, source, np.zeros(300), 4)
  real = {
    (x.tobytes(), int(k))
    for x, k in zip(source.arrays['x0'], source.arrays['label'], strict=True)
  }
  drawn = zip(x0, cond['label'], strict=True)
  assert {(x.tobytes(), int(k)) for x, k in drawn} <= real
  assert len(set(cond['label'])) == 10
  x1, _ = states(PIXELS, source, np.ones(300), 4)
  assert abs(x1.mean()) < 0.03 and abs(x1.std() - 1) < 0.03
  t = np.linspace(0, 1, 300)
  x_t, _ = states(PIXELS, source, t, 4)
  t = t[:, None, None, None]
  np.testing.assert_allclose(x_t, (1 - t) * x0 + t * x1, atol=1e-5)
  assert x_t.dtype == np.float32
  other, _ = states(PIXELS, source, np.ones(300), 5)
  assert not np.array_equal(other, x1)


@pytest.mark.parametrize(
  ('evaluator', 'options', 'message'),
  [
    (semigroup, {'role': 'ema'}, "^role = 'ema' must be one of"),
    (semigroup, {'samples': 1}, '^samples = 1 must be at least 2'),
    (boundary, {'teacher': 'weak'}, "^teacher = 'weak' must be one of"),
    (boundary, {'times': (0.5, 2)}, r'^times = \(0.5, 2\) must lie in'),
    (boundary, {'samples': 1}, '^samples = 1 must be at least 2'),
    (boundary, {'role': 'ema'}, "^role = 'ema' must be one of"),
    (straightness, {'steps': 0}, '^steps = 0 must be at least 1'),
    (straightness, {'samples': 1}, '^samples = 1 must be at least 2'),
    (straightness, {'role': 'ema'}, "^role = 'ema' must be one of"),
  ],
)
def test_bad_values_are_refused_before_anything_is_asked(
  evaluator, options, message
):
  models = {'student': None, 'teacher': None}
  with pytest.raises(ValueError, match=message):
    evaluator(models, DATA, None, None, **options)
