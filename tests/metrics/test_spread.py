"""Mean and spread over disjoint sets."""

import numpy as np
import pytest

from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import RunningMoments, merge, moments
from flowdistill.metrics.spread import Spread, disjoint_sets, spread


def test_sets_cover_all_samples_once():
  parts = disjoint_sets(11, 3)
  assert [len(range(11)[part]) for part in parts] == [3, 4, 4]
  assert np.concatenate([np.arange(11)[part] for part in parts]).tolist() == (
    list(range(11))
  )
  assert len(disjoint_sets(6)) == 3


def test_of_a_figure_by_hand():
  found = spread(lambda x: x, [1.0, 2.0, 6.0])
  assert found == Spread(3, pytest.approx(np.sqrt(7)), (1, 2, 6))
  assert spread(float, [2]) == Spread(2, None, (2,))


def test_of_features_and_of_moments_it_is_the_same():
  rng = np.random.default_rng(0)
  x, real = rng.standard_normal((90, 4)), moments(rng.standard_normal((99, 4)))
  sets = [x[part] for part in disjoint_sets(len(x))]
  running = [RunningMoments.of(each) for each in sets]
  of_features = spread(lambda s: frechet_distance(moments(s), real), sets)
  of_moments = spread(lambda r: frechet_distance(r.moments(), real), running)
  assert of_moments == of_features
  assert of_features.deviation is not None and of_features.deviation > 0
  np.testing.assert_allclose(
    merge(running).moments().covariance, moments(x).covariance, atol=1e-12
  )


@pytest.mark.parametrize(
  ('count', 'sets', 'message'),
  [
    (9, 0, 'sets = 0 must be at least 1'),
    (5, 3, 'sets = 3 must be at most 2: each of them needs two of the 5'),
  ],
)
def test_bad_sets_are_refused(count, sets, message):
  with pytest.raises(ValueError, match=message):
    disjoint_sets(count, sets)


@pytest.mark.parametrize('values', [[], [1.0, np.nan], [np.inf]])
def test_figures_that_are_none_are_refused(values):
  with pytest.raises(ValueError, match='finite figures of at least one set'):
    spread(float, values)
