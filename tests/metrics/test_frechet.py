"""The Fréchet distance against its closed form for Gaussians."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import Moments, moments

SEEDS = st.integers(0, 10_000)


def gaussian(mean, covariance):
  return Moments(
    np.asarray(mean, np.float64), np.asarray(covariance, np.float64), 100
  )


def random(rng, d, rank=None):
  """Moments with a covariance of this rank."""
  factor = rng.standard_normal((d, rank or d))
  return gaussian(rng.standard_normal(d), factor @ factor.T)


def rotation(rng, d):
  return np.linalg.qr(rng.standard_normal((d, d)))[0]


def rotated(a, q):
  return gaussian(q @ a.mean, q @ a.covariance @ q.T)


def test_of_the_line():
  """(m₁ − m₂)² + (σ₁ − σ₂)²."""
  a, b = gaussian([1], [[4]]), gaussian([-2], [[9]])
  assert frechet_distance(a, b) == pytest.approx(9 + 1, rel=1e-14)


@given(SEEDS)
def test_of_commuting_covariances(seed):
  """Axis by axis in a common basis, which need not be that of the axes."""
  rng = np.random.default_rng(seed)
  q, d = rotation(rng, 6), rng.standard_normal(6)
  s1, s2 = rng.uniform(0, 2, (2, 6))
  a = rotated(gaussian(np.zeros(6), np.diag(s1**2)), q)
  b = rotated(gaussian(d, np.diag(s2**2)), q)
  expected = np.sum(d**2) + np.sum((s1 - s2) ** 2)
  assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_of_two_that_do_not_commute():
  """In the plane tr (AB)^½ = √(tr AB + 2 √(det A det B))."""
  a, b = np.array([[2, 1], [1, 3]]), np.array([[5, -2], [-2, 1]])
  root = np.sqrt(
    np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b))
  )
  expected = np.trace(a) + np.trace(b) - 2 * root
  found = frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b))
  assert found == pytest.approx(expected, rel=1e-12)


@given(SEEDS, st.integers(1, 8), st.integers(1, 8))
def test_it_is_a_distance_that_rotation_does_not_change(seed, d, rank):
  rng = np.random.default_rng(seed)
  a, b = random(rng, d, min(rank, d)), random(rng, d)
  q = rotation(rng, d)
  distance = frechet_distance(a, b)
  tolerance = {'rel': 1e-6, 'abs': 1e-6}
  assert distance > 0
  assert frechet_distance(b, a) == pytest.approx(distance, **tolerance)
  turned = frechet_distance(rotated(a, q), rotated(b, q))
  assert turned == pytest.approx(distance, **tolerance)
  assert 0 <= frechet_distance(a, a) < 1e-6


def test_of_singular_covariances():
  """Two lines in the plane at an angle: tr (AB)^½ = |cos|, and no NaN."""
  angle = 0.3
  line = np.array([np.cos(angle), np.sin(angle)])
  a = gaussian([0, 0], np.diag([1, 0]))
  b = gaussian([0, 0], np.outer(line, line))
  assert frechet_distance(a, b) == pytest.approx(2 - 2 * np.cos(angle))


def test_with_more_features_than_samples():
  """Of n points that are shifted as a whole: the square of the shift."""
  x = np.random.default_rng(0).standard_normal((20, 50))
  shift = np.full(50, 0.5)
  distance = frechet_distance(moments(x), moments(x + shift))
  assert distance == pytest.approx(12.5, rel=1e-6)


def test_moments_are_those_of_the_sample():
  x = np.array([[0, 0], [2, 0], [2, 4], [0, 4]], np.float32)
  found = moments(x)
  assert found.mean.tolist() == [1, 2]
  assert found.covariance == pytest.approx(np.diag([4 / 3, 16 / 3]))
  assert found.count == 4


def test_float64_is_kept():
  """float32 features far from the origin: their spread is not lost."""
  x = np.random.default_rng(0).integers(0, 2, (1000, 3)).astype(np.float32)
  found = moments(x + np.float32(4096))
  assert found.mean.dtype == found.covariance.dtype == np.float64
  np.testing.assert_allclose(
    found.covariance, moments(x).covariance, atol=1e-12
  )


def test_samples_of_one_law_come_nearer():
  rng = np.random.default_rng(0)
  real = gaussian(np.zeros(4), np.eye(4))
  few, many = (
    frechet_distance(moments(rng.standard_normal((n, 4))), real)
    for n in (100, 10_000)
  )
  assert many < 0.01 < few < 0.5


@pytest.mark.parametrize(
  ('features', 'message'),
  [
    (np.zeros((1, 3)), r'n >= 2 needed, got \(1, 3\)'),
    (np.zeros(5), r'\[n, d\]'),
    (np.array([[0.0], [np.nan]]), 'features must be finite'),
  ],
)
def test_bad_features_are_refused(features, message):
  with pytest.raises(ValueError, match=message):
    moments(features)


def test_features_of_different_length_are_refused():
  with pytest.raises(ValueError, match='one length needed, got 2 and 3'):
    frechet_distance(random(np.random.default_rng(0), 2), gaussian([0] * 3, 0))
