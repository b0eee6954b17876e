import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracle import Gaussian

from flowdistill.flow.transport import (
  expand,
  flow_map,
  interpolate,
  score_from_velocity,
  velocity_of,
  x0_from_velocity,
  x1_from_velocity,
)

SHAPE = (4, 2, 3)
POINTS = arrays(np.float32, SHAPE, elements=st.floats(-8, 8, width=32))
TIMES = arrays(np.float32, SHAPE[:1], elements=st.floats(0, 1, width=32))


def test_expand_appends_axes():
  t = jnp.arange(4.0)
  assert expand(t, jnp.ones(SHAPE)).shape == (4, 1, 1)
  assert expand(t, t).shape == (4,)


@given(POINTS, POINTS)
def test_the_path_goes_from_data_to_noise(x0, x1):
  zero, one = np.zeros(4, np.float32), np.ones(4, np.float32)
  np.testing.assert_array_equal(interpolate(x0, x1, zero), x0)
  np.testing.assert_array_equal(interpolate(x0, x1, one), x1)


@given(POINTS, POINTS, TIMES)
def test_both_ends_are_read_off_a_point_and_its_velocity(x0, x1, t):
  x_t, v = interpolate(x0, x1, t), x1 - x0
  np.testing.assert_allclose(x0_from_velocity(x_t, v, t), x0, atol=1e-5)
  np.testing.assert_allclose(x1_from_velocity(x_t, v, t), x1, atol=1e-5)


@given(POINTS, POINTS, TIMES, TIMES)
def test_a_jump_along_a_straight_path_stays_on_it(x0, x1, t, s):
  x_s = flow_map(
    lambda x, t, s, cond: x1 - x0, interpolate(x0, x1, t), t, s, None
  )
  np.testing.assert_allclose(x_s, interpolate(x0, x1, s), atol=1e-5)


def test_a_jump_hands_on_what_it_is_given():
  x, t, s = np.ones(SHAPE), np.full(4, 0.75), np.full(4, 0.25)
  asked = []
  flow_map(
    lambda *arguments: asked.append(arguments) or x, x, t, s, {'label': 3}
  )
  assert asked == [(x, t, s, {'label': 3})]


def test_a_jump_of_no_length_stays_where_it_is():
  x, t = np.ones(SHAPE, np.float32), np.linspace(0, 1, 4, dtype=np.float32)
  answer = flow_map(lambda x, t, s, cond: 7 * x, x, t, t, None)
  np.testing.assert_array_equal(answer, x)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('std', [0.5, 1.0, 2.0])
def test_the_score_of_gaussian_data(std):
  flow, t = Gaussian(std), jnp.linspace(0.01, 1, 50)
  x = np.random.default_rng(0).normal(size=(50, 3))
  score = score_from_velocity(x, flow.velocity(x, t), t)
  exact = -x / expand(flow.variance(t), x)
  np.testing.assert_allclose(score, exact, atol=1e-12)


def test_velocity_of_asks_at_equal_times_and_passes_the_condition_on():
  asked = []
  velocity_of(lambda *arguments: asked.append(arguments))('x', 't', 'cond')
  assert asked == [('x', 't', 't', 'cond')]
