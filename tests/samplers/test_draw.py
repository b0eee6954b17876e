"""Drawing: example i is a function of (seed, i) and of its condition."""

import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian
from scipy import stats

from flowdistill.flow.transport import expand
from flowdistill.samplers import SAMPLERS
from flowdistill.samplers.draw import Draw

FLOW = Gaussian(std=0.5)
SHAPE = (2, 2, 1)


def apply(params, x, t, s, cond):
  """Ends 1 + label times `params` further than the exact flow."""
  shift = expand(params * (1.0 + cond['label']), x)
  return FLOW.average_velocity(x, t, s) - shift


def labels(n: int):
  return {'label': np.arange(n)}


def still(params, x, t, s, cond):
  return jnp.zeros_like(x)


@pytest.mark.parametrize(
  ('sampler', 'nfe'), [('euler', 3), ('gamma', 3), ('rk45', None)]
)
def test_an_example_does_not_depend_on_how_it_was_batched(sampler, nfe):
  """To float tolerance whatever the batch size, to the byte at a fixed one."""
  small, large = (Draw(apply, SHAPE, b) for b in (4, 16))

  def run(draw, n):
    return draw(1.0, n, sampler=sampler, nfe=nfe, cond=labels(n), seed=5).x

  ten = run(small, 10)
  assert ten.shape == (10, *SHAPE)
  assert ten.dtype == np.float32
  np.testing.assert_allclose(run(large, 10), ten, atol=1e-6)
  np.testing.assert_array_equal(run(small, 5), ten[:5])


def test_noise_is_standard_normal_and_fresh_for_every_example_and_seed():
  draw = Draw(still, SHAPE, 512)
  noise = np.stack([draw((), 1500, nfe=1, seed=k).x for k in range(3)])
  assert stats.kstest(noise.ravel(), 'norm').pvalue > 0.01
  assert len(np.unique(noise)) > 0.99 * noise.size


def test_the_noise_of_the_steps_is_not_that_of_the_start():
  """u = x jumps from t = 1 to 0, which leaves only the fresh noise at 0.5."""
  nowhere = Draw(
    lambda params, x, t, s, cond: jnp.where(
      expand(t, x) == 1, x, jnp.zeros_like(x)
    ),
    SHAPE,
    512,
  )
  start = Draw(still, SHAPE, 512)((), 1500, nfe=1).x
  fresh = 2 * nowhere((), 1500, sampler='gamma', gamma=1.0, nfe=2).x
  assert stats.kstest(fresh.ravel(), 'norm').pvalue > 0.01
  correlation = np.corrcoef(fresh.ravel(), start.ravel())[0, 1]
  assert abs(correlation) < 4 / fresh.size**0.5


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_all_samplers_start_from_the_same_noise(sampler):
  draw = Draw(still, SHAPE, 4)
  nfe = {'heun': 3, 'rk4': 8, 'rk45': None}.get(sampler, 2)
  noiseless = {
    'gamma': {'gamma': 0.0},
    'jump_renoise': {'gamma': 0.0},
    'few': {'stochasticity': 0.0},
    'consistency': {'grid': 'explicit'},  # in one step
  }
  options = noiseless.get(sampler, {})
  start = draw((), 6, nfe=1)
  other = draw(
    (), 6, sampler=sampler, nfe=1 if 'grid' in options else nfe, **options
  )
  np.testing.assert_allclose(other.x, start.x, rtol=1e-6)


def test_each_example_gets_its_condition():
  draw = Draw(apply, SHAPE, 4)
  plain = draw(0.0, 7, nfe=1, sampler='flow_map', cond=labels(7)).x
  moved = draw(1.0, 7, nfe=1, sampler='flow_map', cond=labels(7)).x
  expected = 1.0 + labels(7)['label']
  np.testing.assert_allclose(
    (moved - plain).mean((1, 2, 3)), expected, atol=1e-6
  )


def test_parameters_are_an_argument_of_the_compiled_program():
  traces = []

  def counted(params, x, t, s, cond):
    traces.append(1)
    return params * x

  draw = Draw(counted, SHAPE, 4)
  first = draw(1.0, 9, sampler='flow_map', nfe=2)
  before = len(traces)
  second = draw(2.0, 9, sampler='flow_map', nfe=2, grid='shifted', seed=3)
  assert len(traces) == before > 0
  assert not np.array_equal(first.x, second.x)
  draw(1.0, 9, sampler='flow_map', nfe=4)
  assert len(traces) > before


def test_the_grid_and_its_options_reach_the_sampler():
  """One step to s leaves x1 (1 − (1 − s) · 1): u = x, from 1 to the middle."""
  draw = Draw(lambda params, x, t, s, cond: x * (expand(t, x) == 1), SHAPE, 4)
  start = Draw(still, SHAPE, 4)((), 3, nfe=1).x
  for grid, middle in {
    'uniform': 0.5,
    'shifted': 0.75,
  }.items():
    x = draw((), 3, nfe=2, grid=grid).x
    np.testing.assert_allclose(x, middle * start, rtol=1e-6)
  x = draw((), 3, nfe=2, grid={'name': 'shifted', 'shift': 9.0}).x
  np.testing.assert_allclose(x, 0.9 * start, rtol=1e-6)
  x = draw((), 3, nfe=2, grid={'name': 'explicit', 'times': (1, 0.2, 0)}).x
  np.testing.assert_allclose(x, 0.2 * start, rtol=1e-6)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'sampler': 'eular'}, "sampler is 'eular', the choices are .*'euler'"),
    ({'grid': 'log'}, "grid is 'log', the choices are .*'uniform'"),
    ({'grid': {'shift': 3.0}}, "grid is '', the choices are"),
    ({'sampler': 'heun', 'nfe': 8}, 'nfe is 8.*7 or 9'),
    ({'sampler': 'gamma', 'gamma': 2.0}, 'gamma = 2.0 must'),
    ({'cond': labels(3)}, r"cond\['label'\] has 3 rows, n is 4"),
    ({'n': 0}, 'n is 0'),
  ],
)
def test_what_cannot_be_drawn_raises(options, message):
  draw = Draw(still, SHAPE, 4)
  with pytest.raises(ValueError, match=message):
    draw((), **({'n': 4} | options))


def test_every_example_says_what_it_cost():
  draw = Draw(apply, SHAPE, 4)
  fixed = draw(0.0, 5, nfe=3, cond=labels(5))
  assert fixed.nfe.tolist() == [3] * 5
  adaptive = draw(0.0, 5, sampler='rk45', nfe=None, cond=labels(5))
  assert ((adaptive.nfe - 1) % 6 == 0).all()
  assert adaptive.nfe.shape == (5,)
  np.testing.assert_allclose(
    adaptive.x,
    draw(0.0, 5, sampler='flow_map', nfe=1, cond=labels(5)).x,
    atol=1e-4,
  )


@pytest.mark.parametrize(
  ('sampler', 'nfe', 'atol'),
  [
    ('euler', 512, 0.05),
    ('heun', 128, 1e-3),
    ('rk4', 64, 1e-4),
    ('rk45', None, 1e-3),
  ],
)
def test_encoding_finds_the_noise_again(sampler, nfe, atol):
  """x1 = x0 √(V_1 / V_0), and less where the network is off by the label."""
  draw = Draw(apply, SHAPE, 4)
  x0 = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
  how = {'sampler': sampler, 'nfe': nfe, 'cond': labels(6)}
  noise = draw.encode(0.0, x0, **how)
  np.testing.assert_allclose(noise.x, 2 * x0, atol=atol)
  assert noise.x.shape == (6, *SHAPE)
  moved = draw.encode(1.0, x0, **how).x - noise.x
  assert (np.diff(moved.mean((1, 2, 3))) < 0).all()


def test_the_network_is_asked_with_its_own_rows():
  draw = Draw(apply, SHAPE, 4)
  rng = np.random.default_rng(0)
  x, t = rng.normal(size=(6, *SHAPE)), np.linspace(0.1, 1, 6)
  u = draw.ask(0.5, x, t, t / 2, labels(6))
  assert u.dtype == np.float32
  exact = apply(
    0.5, jnp.float32(x), jnp.float32(t), jnp.float32(t / 2), labels(6)
  )
  np.testing.assert_allclose(u, exact, rtol=1e-5)
  with pytest.raises(ValueError, match=r"asked\['t'\] has 5 rows, n is 6"):
    draw.ask(0.5, x, t[:5], t / 2, labels(6))


@pytest.mark.parametrize(
  ('sampler', 'nfe'), [('euler', 3), ('gamma', 3), ('rk45', None)]
)
def test_drawing_goes_on_from_its_first_to_the_byte(sampler, nfe):
  draw = Draw(apply, SHAPE, 4)
  how = {'sampler': sampler, 'nfe': nfe, 'seed': 5}
  whole = draw(1.0, 11, cond=labels(11), **how).x
  rest = draw(1.0, 5, cond={'label': np.arange(6, 11)}, first=6, **how).x
  np.testing.assert_array_equal(rest, whole[6:])
