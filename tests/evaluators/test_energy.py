"""The evaluator of points."""

import json

import pytest
from evaluators.fakes import Replay, points

from flowdistill.evaluators.energy import energy

SOURCE = points()
X0 = SOURCE.arrays['x0']


def test_rows_of_the_data_and_of_noisy_data(tmp_path):
  sweep = {
    'teacher': [['euler', 1], ['euler', 4]],
    'student': [['flow_map', 1]],
  }
  models = {'teacher': Replay(X0, 5.0), 'student': Replay(X0)}
  rows = list(
    energy(models, SOURCE, None, tmp_path, sweep=sweep, samples=400, seed=2)
  )
  assert [list(row) for row in rows] == [
    [
      'model',
      'sampler',
      'nfe',
      'samples',
      'seed',
      'energy_distance',
      'ms_per_image',
    ]
  ] * 3
  assert [(r['model'], r['nfe']) for r in rows] == [
    ('teacher', 1),
    ('teacher', 4),
    ('student', 1),
  ]
  far, near, same = (row['energy_distance'] for row in rows)
  assert far > 1 > near > 0.1
  assert same == pytest.approx(0, abs=0.02)
  assert json.loads(json.dumps(rows)) == rows
  assert models['student'].calls[-1]['cond'] == {}
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'samples': 0}, 'samples = 0 must be at least 2'),
    ({'sweep': {'weak': [['euler', 1]]}}, "the role 'weak'"),
  ],
)
def test_bad_values_are_refused_before_anything_is_drawn(
  options, message, tmp_path
):
  options = {'sweep': {'student': [['flow_map', 1]]}, **options}
  with pytest.raises(ValueError, match=message):
    energy({'student': Replay(X0)}, SOURCE, None, tmp_path, **options)
