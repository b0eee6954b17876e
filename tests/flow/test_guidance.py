"""Guided Gaussian flows are linear flows, so their maps are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defaults import defaults
from oracle import Gaussian
from scipy import stats

from flowdistill.flow.guidance import GUIDANCE, extrapolate, fixed, uniform

STRONG, WEAK = Gaussian(std=0.5), Gaussian(std=0.8)


def test_scale_one_is_the_network_alone_and_zero_the_weak_one():
  v, weak = jnp.array([1.0, -2.0]), jnp.array([0.3, 4.0])
  np.testing.assert_array_equal(extrapolate(v, weak, 1.0), v)
  np.testing.assert_array_equal(extrapolate(v, weak, 0.0), weak)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('scale', [0.5, 1.5, 3.0])
def test_the_guided_flow_is_a_product_of_powers_of_both(scale):
  """x'/x is the guided rate, so log f is its integral: the midpoint rule."""
  times = jnp.linspace(0.9, 0.2, 4001)
  m = (times[1:] + times[:-1]) / 2
  rate = extrapolate(STRONG.rate(m), WEAK.rate(m), scale)
  f = float(jnp.exp(jnp.sum(jnp.diff(times) * rate)))
  strong, weak = (
    float(flow.variance(times[-1]) / flow.variance(times[0]))
    for flow in (STRONG, WEAK)
  )
  exact = strong ** (scale / 2) * weak ** ((1 - scale) / 2)
  np.testing.assert_allclose(f, exact, rtol=1e-6)


def test_a_fixed_scale_is_the_same_for_all():
  scale = fixed(jax.random.key(0), 5, scale=2.5)
  np.testing.assert_array_equal(scale, np.full(5, 2.5, np.float32))
  assert fixed(jax.random.key(0), 5, scale=2).dtype == np.float32


def test_a_drawn_scale_is_uniform():
  scale = uniform(jax.random.key(0), 20_000, low=1.0, high=3.0)
  assert stats.kstest(np.asarray(scale), stats.uniform(1, 2).cdf).pvalue > 0.01
  for low in (1, 2):
    with pytest.raises(ValueError, match=f'high = 1 must be above low = {low}'):
      uniform(jax.random.key(0), 1, low=low, high=1)


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(GUIDANCE) == {
    'fixed': {'scale': 1.5},
    'uniform': {'low': 1, 'high': 3},
  }
