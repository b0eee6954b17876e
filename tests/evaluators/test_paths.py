"""Paths and their straightness, of flows that are known."""

import numpy as np
import pytest
from evaluators import fakes
from PIL import Image

from flowdistill.evaluators.paths import deviation, paths, trajectories
from flowdistill.flow.spec import DataSpec


class Straight(fakes.InPixels):
  """Every path goes on as it began: ż = 3 everywhere."""

  def ask(self, x_t, t, s, cond):
    return np.full_like(x_t, 3)


class Bent(fakes.InPixels):
  """ż = 2 t, which on average over t is 1: z1 − z0 = 1, and S = 1 / 3."""

  def ask(self, x_t, t, s, cond):
    return np.broadcast_to(2 * t.reshape(-1, *(1,) * (x_t.ndim - 1)), x_t.shape)


def row(model, source, folder, **options):
  (found,) = paths({'student': model}, source, None, folder, **options)
  return found


def test_straight_paths_are_straight(tmp_path):
  found = row(Straight(), fakes.points(), tmp_path)
  assert found['straightness'] == pytest.approx(0, abs=1e-10)


def test_of_a_bent_path_it_is_the_variance_of_its_velocity(tmp_path):
  """∫ (2 t − 1)² dt = 1 / 3 in each of the two dimensions."""
  found = row(Bent(), fakes.points(), tmp_path, steps=400)
  assert found['straightness'] == pytest.approx(2 / 3, rel=0.01)


def test_each_state_follows_from_the_one_before():
  x1 = np.zeros((3, 2))
  z, v = trajectories(Bent(), x1, {}, 4)
  assert z.shape == (5, 3, 2)
  np.testing.assert_allclose(z[1:], z[:-1] - v / 4)
  np.testing.assert_allclose(v[:, 0, 0], [2, 1.5, 1, 0.5])
  np.testing.assert_allclose(deviation(z, v), 2 * (v[:, 0, 0] - 1.25) ** 2)


@pytest.mark.parametrize('source', [fakes.digits, fakes.points])
def test_there_are_pictures(tmp_path, source):
  row(Bent(), source(), tmp_path, steps=4, samples=9)
  for name in ('student_paths', 'student_straightness'):
    picture = np.asarray(Image.open(tmp_path / 'samples' / f'{name}.png'))
    assert picture.std() > 1  # not one colour


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'role': 'teacher'}, "role = 'teacher'"),
    ({'steps': 0}, 'steps = 0 must be at least 1'),
    ({'shown': 0}, 'shown = 0 must be at least 1'),
    ({'samples': 1}, 'samples = 1'),
  ],
)
def test_options_out_of_range_raise(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    row(Straight(), fakes.points(), tmp_path, **options)


def test_examples_that_have_no_picture_are_refused(tmp_path):
  source = fakes.Data(DataSpec((3,)), {'x0': np.zeros((5, 3), np.float32)})
  with pytest.raises(ValueError, match=r'^shape = \(3,\) must be'):
    row(Straight(), source, tmp_path)
