"""The Fréchet distance against its closed form for Gaussians."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.metrics.frechet import (
  frechet_distance,
  mean_ratio,
  sampling_bias,
)
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


def test_a_rank_that_the_count_gives_is_exact():
  """Of few points in many dimensions, by the Gram matrix of both sets.

  tr (S₁ S₂)^½ is the sum of the singular values of X₁ X₂ᵀ, over √(n m).
  """
  rng = np.random.default_rng(0)
  x, y = rng.standard_normal((20, 50)), rng.standard_normal((200, 50))
  a, b = (each - each.mean(axis=0) for each in (x, y))
  cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
  variance = np.square(a).sum() / 19 + np.square(b).sum() / 199
  shift = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2)
  expected = shift + variance - 2 * cross / np.sqrt(19 * 199)
  found = frechet_distance(moments(x), moments(y))
  assert found == pytest.approx(expected, rel=1e-12)
  of_unknown = Moments(moments(x).mean, moments(x).covariance, None)
  found = frechet_distance(of_unknown, moments(y))
  assert found == pytest.approx(expected, rel=1e-12)


def test_for_a_condition_of_1e13_it_keeps_digits_that_others_lose():
  """S = G Gᵀ without rounding: integers times powers of two.

  The reference are the singular values of G₁ᵀ G₂, right to 1e-15 by mpmath.
  """
  rng = np.random.default_rng(0)
  scale = 2.0 ** -np.round(np.linspace(0, 21, 32))
  g, h = rng.integers(-4, 5, (2, 32, 32)) * scale
  a, b = g @ g.T, h @ h.T
  assert np.linalg.cond(a) > 1e13
  cross = np.linalg.svd(g.T @ h, compute_uv=False).sum()
  total = np.trace(a) + np.trace(b)

  def ours():
    found = frechet_distance(*(gaussian(np.zeros(32), s) for s in (a, b)))
    return (total - found) / 2

  def of_the_symmetric_form():
    root = scipy.linalg.sqrtm(a).real
    values = np.linalg.eigvalsh(root @ b @ root)
    return np.sqrt(np.maximum(values, 0)).sum()

  ways = {
    'ours': ours(),
    'symmetric': of_the_symmetric_form(),
    'Schur': np.trace(scipy.linalg.sqrtm(a @ b)).real,
    'eigenvalues': np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum(),
    'Newton-Schulz': newton_schulz(a @ b, 15),
  }
  errors = {way: abs(found / cross - 1) for way, found in ways.items()}
  assert errors.pop('ours') < 1e-12
  assert min(errors.values()) > 1e-10


def newton_schulz(product, iterations):
  """tr A^½ as the cheap implementations of FID compute it."""
  size, one = np.linalg.norm(product), np.eye(len(product))
  y, z = product / size, one
  for _ in range(iterations):
    step = (3 * one - z @ y) / 2
    y, z = y @ step, step @ z
  return np.trace(y) * np.sqrt(size)


@given(SEEDS)
def test_it_is_that_of_the_roots(seed):
  """As it was computed before: figures that were published stay."""
  rng = np.random.default_rng(seed)
  a, b = random(rng, 8), random(rng, 8)

  def root(s):
    values, vectors = np.linalg.eigh(s)
    return (vectors * np.sqrt(values)) @ vectors.T

  product = root(a.covariance) @ root(b.covariance)
  cross = np.linalg.svd(product, compute_uv=False).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  expected = np.sum((a.mean - b.mean) ** 2) + traces - 2 * cross
  assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_without_variance_it_is_the_distance_of_the_means():
  a, b = gaussian([3, 4], np.zeros((2, 2))), gaussian([0, 0], np.eye(2))
  assert frechet_distance(a, a) == 0
  assert frechet_distance(a, b) == pytest.approx(25 + 2)


def test_the_bias_of_few_samples_is_what_they_measure():
  rng = np.random.default_rng(0)
  law = gaussian(np.zeros(4), np.diag([1, 2, 3, 9]))
  found = [
    frechet_distance(
      moments(rng.standard_normal((400, 4)) * np.sqrt([1, 2, 3, 9])), law
    )
    for _ in range(300)
  ]
  assert sampling_bias(law, 400) == pytest.approx(np.mean(found), rel=0.05)


def test_the_bias_on_the_line_and_its_limit():
  """σ² / n of the mean and σ² / 2n of the deviation."""
  assert sampling_bias(gaussian([0], [[4]]), 100) == pytest.approx(0.06)
  assert sampling_bias(gaussian(np.zeros(50), np.eye(50)), 2) == 100
  assert sampling_bias(gaussian([0, 0], np.zeros((2, 2))), 2) == 0
  with pytest.raises(ValueError, match='count = 1 must be at least 2'):
    sampling_bias(gaussian([0], [[4]]), 1)


def test_the_mean_ratio_is_to_the_validation_set():
  real = {'inception': 2.0, 'dinov2': 10.0}
  assert mean_ratio(real, real) == 1
  assert mean_ratio({'inception': 4.0, 'dinov2': 5.0}, real) == 1.25
  with pytest.raises(ValueError, match='of the same networks'):
    mean_ratio({'inception': 4.0}, real)
  with pytest.raises(ValueError, match='of the same networks'):
    mean_ratio({}, {})
  with pytest.raises(
    ValueError, match='validation = 0.0 of clip must be above'
  ):
    mean_ratio({'clip': 1.0}, {'clip': 0.0})


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
