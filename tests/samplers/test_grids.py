import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import norm

from flowdistill.samplers import GRIDS
from flowdistill.samplers.grids import (
  explicit,
  falls,
  karras,
  kumaraswamy,
  logit_normal,
  shifted,
  uniform,
)


@given(
  st.integers(1, 100),
  st.floats(0.3, 3),
  st.floats(0.3, 3),
  st.floats(0, 0.4),
)
def test_grids_fall_from_noise_to_data(steps, a, b, gap):
  for grid in (
    uniform(steps),
    shifted(steps, shift=a),
    logit_normal(steps, mean=b - 1, std=a),
    karras(steps, rho=b, sigma_max=100 * a),
    kumaraswamy(steps, a=a, b=b, c=a, gap=(gap, 0.0)),
    kumaraswamy(steps, a=a, b=b, c=b, gap=(gap, 0.5)),
  ):
    assert grid.shape == (steps + 1,)
    assert falls(grid)


def test_what_falls():
  assert falls(np.array([0.9, 0.5, 0]))
  for times in (
    [1.1, 0],
    [1, 0.5],
    [1, 0.5, 0.5, 0],
    [0.5, 1, 0],
    [1, np.nan, 0],
  ):
    assert not falls(np.array(times))


def test_every_grid_has_a_default_for_one_step():
  assert all(falls(grid(1)) and len(grid(1)) == 2 for grid in GRIDS.values())


def test_uniform_has_equal_steps():
  np.testing.assert_allclose(uniform(4), [1, 0.75, 0.5, 0.25, 0])


def test_uniform_may_start_below_1():
  np.testing.assert_array_equal(uniform(1, start=0.999), [0.999, 0])
  np.testing.assert_allclose(uniform(2, start=0.8), [0.8, 0.4, 0])
  for start in (0, -1, 1.1, np.nan):
    with pytest.raises(ValueError, match='start = .* must be above 0'):
      uniform(1, start=start)


def test_shift_moves_the_middle_and_one_does_not():
  assert shifted(2, shift=3.0)[1] == 0.75
  assert shifted(2, shift=1 / 3)[1] == pytest.approx(0.25)
  np.testing.assert_allclose(shifted(7, shift=1.0), uniform(7), atol=1e-15)


def test_shift_multiplies_the_noise_level():
  """σ(t) = t / (1 − t) becomes α σ(t)."""
  t, moved = uniform(5)[1:], shifted(5, shift=4.0)[1:]
  np.testing.assert_allclose(moved / (1 - moved), 4 * t / (1 - t))


def test_logit_normal_times_are_quantiles():
  inside = logit_normal(8, mean=-0.4, std=1.7)[1:-1]
  quantile = norm.cdf(logit(inside), -0.4, 1.7)
  np.testing.assert_allclose(quantile, uniform(8)[1:-1], rtol=1e-12)
  assert logit_normal(2)[1] == 0.5


def test_karras_noise_levels_have_even_roots():
  grid = karras(6, rho=3.0, sigma_min=0.01, sigma_max=50.0)
  sigma = grid[:-1] / (1 - grid[:-1])
  np.testing.assert_allclose(sigma[[0, -1]], [50, 0.01])
  np.testing.assert_allclose(np.diff(sigma ** (1 / 3), 2), 0, atol=1e-12)
  assert grid[-1] == 0
  # Table 1's schedule of 18 steps, as its authors' code gives it.
  sigma = karras(18)[:3] / (1 - karras(18)[:3])
  np.testing.assert_allclose(sigma, [80, 57.586, 40.786], rtol=1e-4)
  np.testing.assert_allclose(karras(1), [80 / 81, 0])


def test_kumaraswamy_without_gaps_is_uniform():
  np.testing.assert_allclose(kumaraswamy(5), uniform(5), atol=1e-15)


def test_kumaraswamy_gaps():
  """With one at the data both ends of w are asked, without it the last not."""
  few = kumaraswamy(2, gap=(0.001, 0.7))
  np.testing.assert_allclose(few, [0.999, 0.7, 0])
  four = kumaraswamy(4, gap=(0.001, 0.5))
  np.testing.assert_allclose(four, [*np.linspace(0.999, 0.5, 4), 0])
  open_end = kumaraswamy(3, gap=(0.1, 0.0))
  np.testing.assert_allclose(open_end, [0.9, 0.6, 0.3, 0])
  np.testing.assert_allclose(kumaraswamy(1, gap=(0.1, 0.5)), [0.9, 0])


def test_kumaraswamy_is_one_minus_its_distribution_function():
  """At w = 0.5 with a = 2, b = 3, c = 2: 1 − (1 − 0.75³)²."""
  middle = kumaraswamy(2, a=2.0, b=3.0, c=2.0)[1]
  assert middle == pytest.approx(1 - (1 - 0.75**3) ** 2)
  assert kumaraswamy(9, a=1.5)[1] > uniform(9)[1]
  assert kumaraswamy(9, c=1.5)[1] > uniform(9)[1]
  assert kumaraswamy(9, b=1.5)[-2] < uniform(9)[-2]


def test_explicit_times_are_taken_as_they_are():
  np.testing.assert_array_equal(
    explicit(2, times=(0.99, 0.4, 0)), [0.99, 0.4, 0]
  )
  np.testing.assert_array_equal(explicit(1), [1, 0])


def test_explicit_times_have_one_entry_more_than_steps():
  with pytest.raises(ValueError, match=r'^times = .* 5 entries, not 3 for 4'):
    explicit(4, times=(1, 0.5, 0))


@pytest.mark.parametrize(
  'times', [(1, 0.5, 0.1), (1.1, 0.5, 0), (1, 1, 0), (0, 0.5, 1), (1, 0, 0)]
)
def test_explicit_times_fall_to_zero(times):
  with pytest.raises(ValueError, match=r'^times = .* must fall from at most 1'):
    explicit(2, times=times)


@pytest.mark.parametrize(
  ('grid', 'options', 'message'),
  [
    (shifted, {'shift': 0.0}, 'shift = 0.0 must be above 0'),
    (shifted, {'shift': -1.0}, 'shift = -1.0 must'),
    (shifted, {'shift': float('nan')}, 'shift = nan must'),
    (logit_normal, {'std': 0.0}, 'std = 0.0 must be above 0'),
    (karras, {'rho': 0.0}, 'rho = 0.0 must be above 0'),
    (karras, {'sigma_min': 0.0}, 'sigma_min = 0.0 must be above 0'),
    (karras, {'sigma_max': 0.002}, 'sigma_max = 0.002 must be above sigma_min'),
    (kumaraswamy, {'a': 0.0}, 'a = 0.0 must'),
    (kumaraswamy, {'b': 0.0}, 'b = 0.0 must'),
    (kumaraswamy, {'c': 0.0}, 'c = 0.0 must'),
    (kumaraswamy, {'gap': (0.5, 0.5)}, r'gap = \(0.5, 0.5\) must'),
    (kumaraswamy, {'gap': (-0.1, 0.5)}, r'gap = \(-0.1, 0.5\) must'),
    (kumaraswamy, {'gap': (0.1, -0.1)}, r'gap = \(0.1, -0.1\) must'),
    (kumaraswamy, {'gap': (0.1,)}, r'gap = \(0.1,\) must'),
  ],
)
def test_options_out_of_range_raise(grid, options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    grid(4, **options)
