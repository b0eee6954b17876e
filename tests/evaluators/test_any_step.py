"""The any-step curve is few_step, or for points energy, on its own sweep."""

import pytest
from evaluators.fakes import Pixels, Replay, digits, points

from flowdistill.evaluators.any_step import any_step


def test_images_have_the_rows_of_few_step_and_a_picture(tmp_path):
  source = digits()
  model = Replay(source.arrays['x0'], 2.0)
  rows = list(
    any_step(
      {'student': model}, source, Pixels(source), tmp_path, samples=60, seed=3
    )
  )
  assert [row['nfe'] for row in rows] == [1, 2, 4, 8, 16, 32]
  assert all(row['frechet_pixels'] > 0 for row in rows)
  assert {(call['sampler'], call['seed']) for call in model.calls} == {
    ('flow_map', 3)
  }
  assert [p.name for p in (tmp_path / 'samples').iterdir()] == ['any_step.png']


def test_points_have_the_rows_of_energy(tmp_path):
  source = points()
  rows = any_step(
    {'teacher': Replay(source.arrays['x0'])},
    source,
    None,
    tmp_path,
    sweep={'teacher': [['euler', 1], ['euler', 2]]},
    samples=50,
  )
  assert all('energy_distance' in row for row in rows)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('features', [None, Pixels(digits())])
def test_bad_values_are_refused_before_anything_is_drawn(features, tmp_path):
  with pytest.raises(ValueError, match='samples = 1 must be at least 2'):
    any_step({'student': None}, digits(), features, tmp_path, samples=1)
