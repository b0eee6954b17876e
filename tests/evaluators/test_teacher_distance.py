"""The distance from the teacher's ODE, where both ends are known."""

import numpy as np
import pytest
from evaluators.fakes import Flow, Replay, points
from matplotlib.image import imread
from oracle import Gaussian

from flowdistill.evaluators.teacher_distance import teacher_distance

GAUSSIAN = Gaussian(std=0.4)
SOURCE = points()
FINE = {'teacher': [['euler', 64]]}


@pytest.mark.usefixtures('x64')
def test_the_distance_of_a_few_euler_steps_from_many(tmp_path):
  """n steps of the Gaussian flow multiply the noise by ∏ (1 − rate(t) / n)."""

  def factor(n):
    t = np.linspace(1, 0, n + 1)[:-1]
    return np.prod(1 - GAUSSIAN.rate(t) / n)

  model = Flow(GAUSSIAN.average_velocity)
  rows = list(
    teacher_distance(
      {'student': model, 'teacher': model},
      SOURCE,
      None,
      tmp_path,
      sweep={'student': [['euler', 1], ['euler', 4], ['flow_map', 2]]},
      reference=FINE,
      samples=40,
      seed=2,
    )
  )
  noise = np.random.default_rng(2).standard_normal((40, 2))
  size = np.sqrt(np.square(noise).mean())
  expected = [abs(f - factor(64)) * size for f in (factor(1), factor(4), 0.4)]
  found = [row['teacher_distance'] for row in rows]
  assert found == pytest.approx(expected, rel=1e-9)
  assert expected[0] > expected[1] > expected[2] > 0
  assert rows[0] == {
    'model': 'student',
    'sampler': 'euler',
    'nfe': 1,
    'reference': 'teacher euler 64 NFE',
    'samples': 40,
    'seed': 2,
    'teacher_distance': found[0],
  }
  picture = imread(tmp_path / 'samples' / 'teacher_distance.png')
  assert picture.shape[:2] == (960, 1800)


def test_both_start_from_the_same_noise_and_labels(tmp_path):
  model, teacher = (Replay(SOURCE.arrays['x0'], a) for a in (2.0, 3.0))
  options = {'guidance': {'scale': 1.5}}
  (row,) = teacher_distance(
    {'student': model, 'teacher': teacher},
    SOURCE,
    None,
    tmp_path,
    sweep={'student': [['flow_map', 1]]},
    reference={'teacher': [['heun', 3, options]]},
    samples=9,
    seed=4,
  )
  noise = np.random.default_rng(4).standard_normal((9, 2))  # 2 / 1 and 3 / 3
  size = np.sqrt(np.square(noise).mean())
  assert row['teacher_distance'] == pytest.approx(size, rel=1e-6)
  assert row['reference'] == 'teacher heun 3 NFE (guidance=1.5)'
  (ours,), (theirs,) = model.calls, teacher.calls
  assert theirs['options'] == options
  assert (ours['n'], ours['seed']) == (theirs['n'], theirs['seed']) == (9, 4)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'samples': 1}, '^samples = 1 must be at least 2'),
    ({'sweep': {'ema': []}}, "^sweep has the role 'ema'"),
    ({'reference': {'ema': []}}, "^reference has the role 'ema'"),
    ({'reference': {'teacher': []}}, '^reference = .* must have entries'),
    (
      {'reference': {'teacher': [['heun', 1], ['heun', 3]]}},
      '^reference = .* must have one entry',
    ),
  ],
)
def test_bad_values_are_refused_before_anything_is_drawn(
  options, message, tmp_path
):
  models = {'student': None, 'teacher': None}
  with pytest.raises(ValueError, match=message):
    teacher_distance(models, SOURCE, None, tmp_path, **options)
