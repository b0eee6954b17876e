"""The energy distance against its closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from flowdistill.metrics.energy import energy_distance


def test_of_two_diracs():
  """2 E‖X − Y‖, nothing within either."""
  a, b = np.zeros((5, 2)), np.full((9, 2), [3, 4])
  assert energy_distance(a, b) == pytest.approx(10, rel=1e-12)


def test_of_a_handful_by_hand():
  """{0, 2} and {1, 5}: within each there is one pair, 2 and 4 apart."""
  a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
  across = (1 + 5 + 1 + 3) / 4
  assert energy_distance(a, b) == pytest.approx(2 * across - 2 - 4)


def test_of_two_shifted_gaussians():
  """On the line, D² = 2 E|N(μ, 2)| − 4/√π; here from quantiles, not chance."""
  mu, n = 1.5, 2000
  x = norm.ppf((np.arange(n) + 0.5) / n)[:, None]
  s = np.sqrt(2)  # and the mean of a folded normal distribution
  folded = 2 * s * norm.pdf(mu / s) + mu * (1 - 2 * norm.cdf(-mu / s))
  expected = 2 * folded - 4 / np.sqrt(np.pi)
  assert energy_distance(x, x + mu) == pytest.approx(expected, abs=5e-3)


def test_it_has_no_bias():
  """Two samples of one law: 0 on average, and so at times below."""
  rng = np.random.default_rng(0)
  found = [
    energy_distance(*rng.standard_normal((2, 30, 2))) for _ in range(400)
  ]
  error = np.std(found) / np.sqrt(len(found))
  assert abs(np.mean(found)) < 3 * error
  assert min(found) < 0 < max(found)


@given(st.integers(0, 999))
def test_it_does_not_depend_on_order_place_or_turn(seed):
  rng = np.random.default_rng(seed)
  a, b = rng.standard_normal((12, 3)), rng.standard_normal((15, 3)) + 1
  q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
  distance = energy_distance(a, b)
  assert energy_distance(b, a) == pytest.approx(distance, rel=1e-9)
  assert energy_distance(rng.permutation(a), b) == pytest.approx(distance)
  moved = energy_distance(a @ q + 7, b @ q + 7)
  assert moved == pytest.approx(distance, rel=1e-9)
  assert energy_distance(3 * a, 3 * b) == pytest.approx(3 * distance)


def test_float32_is_summed_in_float64():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 50, 2)).astype(np.float32)
  shift = np.float32(2**10)
  a, b = np.round(a * 64) / 64, np.round(b * 64) / 64  # exact when shifted
  expected = energy_distance(a, b)
  assert energy_distance(a + shift, b + shift) == pytest.approx(expected, 1e-9)


def test_a_single_example_is_refused():
  with pytest.raises(
    ValueError, match='at least two examples needed, got 1, 5'
  ):
    energy_distance(np.zeros((1, 2)), np.zeros((5, 2)))
