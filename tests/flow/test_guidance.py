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
  """log f is linear in the velocity's rate: integrate it by small steps."""
  x, times = jnp.ones((1, 1)), np.linspace(0.9, 0.2, 4001)
  for t, s in zip(times, times[1:], strict=False):
    m = jnp.full(1, (t + s) / 2)
    rate = autoguidance(STRONG.rate(m), WEAK.rate(m), scale)
    x = x * jnp.exp((s - t) * rate)
  t, s = times[[0]], times[[-1]]
  ratio = {f: float(f.variance(s)[0] / f.variance(t)[0]) for f in (STRONG, WEAK)}
  exact = ratio[STRONG] ** (scale / 2) * ratio[WEAK] ** ((1 - scale) / 2)
  np.testing.assert_allclose(float(x[0, 0]), exact, rtol=1e-6)
