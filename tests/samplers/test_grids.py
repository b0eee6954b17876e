import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.samplers import GRIDS
from flowdistill.samplers.grids import explicit, shifted, uniform


@given(st.integers(1, 100), st.floats(0.05, 20))
def test_grids_fall_from_noise_to_data(steps, shift):
  for grid in (uniform(steps), shifted(steps, shift=shift)):
    assert grid.shape == (steps + 1,)
    assert (grid[0], grid[-1]) == (1, 0)
    assert (np.diff(grid) < 0).all()


def test_uniform_has_equal_steps():
  np.testing.assert_allclose(uniform(4), [1, 0.75, 0.5, 0.25, 0])


def test_shift_moves_the_middle_and_one_does_not():
  assert shifted(2, shift=3.0)[1] == 0.75
  assert shifted(2, shift=1 / 3)[1] == pytest.approx(0.25)
  np.testing.assert_allclose(shifted(7, shift=1.0), uniform(7), atol=1e-15)


def test_shift_multiplies_the_noise_level():
  """σ(t) = t / (1 − t) becomes α σ(t)."""
  t, moved = uniform(5)[1:], shifted(5, shift=4.0)[1:]
  np.testing.assert_allclose(moved / (1 - moved), 4 * t / (1 - t))


@pytest.mark.parametrize('shift', [0.0, -1.0, float('nan')])
def test_a_shift_that_is_not_positive_raises(shift):
  with pytest.raises(ValueError, match=f'shift is {shift}.*above 0'):
    shifted(4, shift=shift)


def test_explicit_times_are_taken_as_they_are():
  np.testing.assert_array_equal(
    explicit(2, times=(0.99, 0.4, 0)), [0.99, 0.4, 0]
  )
  np.testing.assert_array_equal(explicit(1), [1, 0])


def test_explicit_times_have_one_entry_more_than_steps():
  with pytest.raises(ValueError, match=r'3 entries.*2 steps.*needs 4'):
    explicit(4, times=(1, 0.5, 0))


@pytest.mark.parametrize(
  'times', [(1, 0.5, 0.1), (1.1, 0.5, 0), (1, 1, 0), (0, 0.5, 1), (1, 0, 0)]
)
def test_explicit_times_fall_to_zero(times):
  with pytest.raises(ValueError, match='fall from at most 1 to 0'):
    explicit(2, times=times)


def test_every_grid_has_a_default():
  assert all(len(grid(1)) == 2 for grid in GRIDS.values())
