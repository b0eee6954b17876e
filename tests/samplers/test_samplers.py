"""What holds for every sampler: which times it asks, and for whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian
from solving import keys, solve

from flowdistill.samplers import SAMPLERS
from flowdistill.samplers.grids import uniform
from flowdistill.samplers.integrate import sample

FLOW = Gaussian(std=0.5)


def ask(name, grid, **options):
  """The sampler, and the times (t, s) of the calls that it really makes."""
  asked = []

  def u(x, t, s):
    assert t.shape == s.shape == x.shape[:1]
    times = jnp.stack([t[0], s[0]])
    jax.debug.callback(asked.append, times, ordered=True)
    return FLOW.average_velocity(x, t, s)

  sampler = SAMPLERS[name](u, **options)
  jax.block_until_ready(solve(sampler, grid, np.zeros((2, 1), np.float32)))
  jax.effects_barrier()
  return sampler, np.asarray(asked)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    *((name, {}) for name in SAMPLERS),
    ('mul', {'order': 2}),
    ('mul', {'order': 2, 'correct_last': True}),
  ],
)
def test_it_asks_at_the_times_it_says(name, options):
  grid = uniform(3).astype(np.float32)
  sampler, asked = ask(name, grid, **options)
  np.testing.assert_allclose(asked[:, 0], sampler.asks(grid), rtol=1e-6)
  assert sampler.jumps == bool((asked[:, 1] < asked[:, 0]).any())
  if sampler.reversible:
    sampler, asked = ask(name, grid[::-1], **options)
    wanted = sampler.asks(grid[::-1])
    np.testing.assert_allclose(asked[:, 0], wanted, rtol=1e-6)


def times(name, steps, **options):
  return ask(name, uniform(steps), **options)[1]


def test_which_times_and_targets():
  assert times('euler', 2).tolist() == [[1, 1], [0.5, 0.5]]
  assert times('heun', 2).tolist() == [[1, 1], [0.5, 0.5], [0.5, 0.5]]
  middle = [0.5, 0.5]
  assert times('rk4', 1).tolist() == [[1, 1], middle, middle, [0, 0]]
  jumps = [[1, 0.5], [0.5, 0]]
  assert times('flow_map', 2).tolist() == times('any', 2).tolist() == jumps
  to_data = [[1, 0], [0.5, 0]]
  assert times('consistency', 2).tolist() == times('few', 2).tolist() == to_data
  assert times('mul', 2).tolist() == times('euler', 2).tolist()
  assert times('mul', 2, order=2).tolist() == times('heun', 2).tolist()
  # σ(r) = 0.8 σ(0.5) = 0.8, and r = 0.4 · 0.5
  np.testing.assert_allclose(
    times('gamma', 2, gamma=0.6), [[1, 0.8 / 1.8], [0.5, 0]], rtol=1e-6
  )
  np.testing.assert_allclose(
    times('jump_renoise', 2, gamma=0.6), [[1, 0.2], [0.5, 0]], rtol=1e-6
  )


@pytest.mark.parametrize('name', ['heun', 'gamma', 'few'])
def test_no_example_depends_on_its_neighbours(name):
  sampler = SAMPLERS[name](FLOW.average_velocity)
  run = jax.jit(lambda x1, keys: sample(sampler, uniform(3), x1, keys))
  x1 = np.random.default_rng(0).normal(size=(6, 2, 2, 1)).astype(np.float32)
  mixed = np.array([3, 1, 5, 5, 0, 2])
  whole, part = run(x1, keys(6)), run(x1[mixed], keys(6)[mixed])
  np.testing.assert_allclose(part, whole[mixed], rtol=1e-6)
