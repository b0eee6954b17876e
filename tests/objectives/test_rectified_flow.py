"""Rectified flow, on flows whose velocity is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture

from flowdistill.flow.couplings import paired
from flowdistill.flow.transport import expand
from flowdistill.objectives import rectified_flow
from flowdistill.objectives.roles import Roles

KEY = jax.random.key(0)
N = 100_000


DIRECTIONS = {
  'constant': lambda x, t: jnp.ones_like(x),
  'linear': lambda x, t: x,
  'cubic': lambda x, t: x**3,
  'late': lambda x, t: x * expand(t, x),
}


@pytest.mark.parametrize('flow', [Gaussian(), Mixture()])
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_it_is_stationary_at_the_exact_velocity_and_nowhere_near(
  flow, direction
):
  """Slopes in a of the loss of v + a φ: zero at a = 0 up to their standard
  error, and back towards it from both sides."""
  x0 = jnp.asarray(flow.draw(np.random.default_rng(1), N), jnp.float32)
  batch, phi = {'x0': x0, 'cond': {}}, DIRECTIONS[direction]

  def losses(a):
    def student(x, t, s, cond):
      return flow.velocity(x, t) + a * phi(x, t)

    return rectified_flow(Roles(student=student), batch, KEY, 0)[0]

  def slope(a):
    slopes = np.asarray(jax.jvp(losses, (a,), (1.0,))[1], np.float64)
    return slopes.mean() / (slopes.std() / N**0.5)

  assert abs(slope(0.0)) < 4
  assert slope(-0.1) < -10
  assert slope(0.1) > 10


def test_it_asks_for_the_instantaneous_velocity():
  asked = []

  def student(x, t, s, cond):
    asked.append((t, s, cond))
    return x

  batch = {'x0': jnp.ones((8, 2)), 'cond': {'label': 3}, 'null': {}}
  rectified_flow(Roles(student=student), batch, KEY, 0)
  ((t, s, cond),) = asked
  np.testing.assert_array_equal(t, s)
  assert cond == {'label': 3}


def test_paired_noise_weight_and_times():
  """Known to the last digit: data 1, noise 5, so v = 4 at x_t = 1 + 4 t."""
  batch = {'x0': jnp.ones((4, 2, 1)), 'x1': jnp.full((4, 2, 1), 5.0)}
  t = jnp.array([0.0, 0.25, 0.5, 1.0])
  loss, metrics = rectified_flow(
    Roles(student=lambda x, t, s, cond: x),
    batch | {'cond': {}},
    KEY,
    0,
    times=lambda key, n: t,
    coupling=paired,
    weight=lambda t, s: t + s,
  )
  np.testing.assert_allclose(loss, 2 * t * 2 * (1 + 4 * t - 4) ** 2)
  assert metrics == {}
