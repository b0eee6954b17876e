"""Guided Gaussian flows are linear flows, so their maps are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.flow.guidance import autoguidance

STRONG, WEAK = Gaussian(std=0.5), Gaussian(std=0.8)


def test_scale_one_is_the_network_alone_and_zero_the_weak_one():
  v, weak = jnp.array([1.0, -2.0]), jnp.array([0.3, 4.0])
  np.testing.assert_array_equal(autoguidance(v, weak, 1.0), v)
  np.testing.assert_array_equal(autoguidance(v, weak, 0.0), weak)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('scale', [0.5, 1.5, 3.0])
def test_the_guided_flow_is_a_product_of_powers_of_both(scale):
  """x'/x is the guided rate, so log f is its integral: the midpoint rule."""
  times = jnp.linspace(0.9, 0.2, 4001)
  m = (times[1:] + times[:-1]) / 2
  rate = autoguidance(STRONG.rate(m), WEAK.rate(m), scale)
  f = float(jnp.exp(jnp.sum(jnp.diff(times) * rate)))
  strong, weak = (
    float(flow.variance(times[-1]) / flow.variance(times[0]))
    for flow in (STRONG, WEAK)
  )
  exact = strong ** (scale / 2) * weak ** ((1 - scale) / 2)
  np.testing.assert_allclose(f, exact, rtol=1e-6)
