"""Generating: example i is a function of (seed, i) and of its conditions."""

import json
import pathlib
import socket
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from jobs.hosts import printed
from oracle import Gaussian
from scipy import stats

from flowdistill.build.sampling import Generator
from flowdistill.flow.spec import DataSpec
from flowdistill.flow.transport import expand
from flowdistill.samplers import SAMPLERS

FLOW = Gaussian(std=0.5)
SHAPE = (2, 2, 1)
SPEC = DataSpec.labelled(SHAPE, 10)
SCRIPT = pathlib.Path(__file__).with_name('drawn.py')


def generator(apply, params=(), batch_size=4, **how):
  return Generator(apply, params, SPEC, batch_size=batch_size, **how)


def apply(params, x, t, s, cond):
  """Ends 1 + label times `params` further than the exact flow."""
  shift = expand(params * (1.0 + cond['label']), x)
  return FLOW.average_velocity(x, t, s) - shift


def labels(n: int):
  return {'label': np.arange(n)}


def still(params, x, t, s, cond):
  return jnp.zeros_like(x)


@pytest.mark.parametrize(
  ('grid', 'plain'),
  [
    ('uniform', True),
    ({'name': 'uniform'}, True),
    ({'name': 'uniform', 'start': 1}, True),
    ({'name': 'uniform', 'start': 0.999}, False),
    ('karras', False),
  ],
)
def test_a_grid_that_is_not_plain_is_named(grid, plain):
  draw = Generator(apply, 1.0, DataSpec(SHAPE), 4, grid=grid)
  assert draw.defaults_of('euler') == ({} if plain else {'grid': grid})
  assert draw.defaults_of('twinflow_few') == {}


@pytest.mark.parametrize(
  ('sampler', 'nfe'), [('euler', 3), ('gamma', 3), ('rk45', None)]
)
def test_an_example_does_not_depend_on_how_it_was_batched(sampler, nfe):
  """To float tolerance whatever the batch size, to the byte at a fixed one."""
  small, large = (generator(apply, 1.0, b) for b in (4, 16))

  def run(draw, n):
    return draw(n, sampler=sampler, nfe=nfe, cond=labels(n), seed=5).x

  ten = run(small, 10)
  assert ten.shape == (10, *SHAPE)
  assert ten.dtype == np.float32
  np.testing.assert_allclose(run(large, 10), ten, atol=1e-6)
  np.testing.assert_array_equal(run(small, 5), ten[:5])


def test_a_published_sampler_has_its_own_grid_and_options():
  draw = generator(apply, 1.0, grid='karras')
  gap = {'name': 'kumaraswamy', 'gap': (0.001, 0.7)}
  own = draw(4, sampler='twinflow_few', nfe=2, cond=labels(4)).x
  spelt = draw(4, sampler='few', nfe=2, grid=gap, cond=labels(4)).x
  np.testing.assert_array_equal(own, spelt)
  given = draw(4, sampler='twinflow_few', nfe=2, grid='karras', cond=labels(4))
  assert np.abs(given.x - own).max() > 0.01


def test_noise_is_standard_normal_and_fresh_for_every_example_and_seed():
  draw = generator(still, batch_size=512)
  noise = np.stack([draw(1500, nfe=1, seed=k).x for k in range(3)])
  assert stats.kstest(noise.ravel(), 'norm').pvalue > 0.01
  assert len(np.unique(noise)) > 0.99 * noise.size


def test_the_noise_of_the_steps_is_not_that_of_the_start():
  """u = x jumps from t = 1 to 0, which leaves only the fresh noise at 0.5."""
  nowhere = generator(
    lambda params, x, t, s, cond: jnp.where(
      expand(t, x) == 1, x, jnp.zeros_like(x)
    ),
    batch_size=512,
  )
  start = generator(still, batch_size=512)(1500, nfe=1).x
  fresh = 2 * nowhere(1500, sampler='gamma', gamma=1.0, nfe=2).x
  assert stats.kstest(fresh.ravel(), 'norm').pvalue > 0.01
  correlation = np.corrcoef(fresh.ravel(), start.ravel())[0, 1]
  assert abs(correlation) < 4 / fresh.size**0.5


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_all_samplers_start_from_the_same_noise(sampler):
  draw = generator(still)
  nfe = {'heun': 3, 'rk4': 8, 'rk45': None}.get(sampler, 2)
  noiseless = {
    'gamma': {'gamma': 0.0},
    'jump_renoise': {'gamma': 0.0},
    'few': {'stochasticity': 0.0},
    'consistency': {'grid': 'explicit'},  # in one step
  }
  options = noiseless.get(sampler, {})
  start = draw(6, nfe=1)
  other = draw(
    6, sampler=sampler, nfe=1 if 'grid' in options else nfe, **options
  )
  np.testing.assert_allclose(other.x, start.x, rtol=1e-6)


def test_each_example_gets_its_condition():
  plain, moved = (
    generator(apply, p)(7, nfe=1, sampler='flow_map', cond=labels(7)).x
    for p in (0.0, 1.0)
  )
  expected = 1.0 + labels(7)['label']
  np.testing.assert_allclose(
    (moved - plain).mean((1, 2, 3)), expected, atol=1e-6
  )


def test_parameters_are_an_argument_of_the_compiled_program():
  traces = []

  def counted(params, x, t, s, cond):
    traces.append(1)
    return params * x

  draw, other = (generator(counted, p) for p in (1.0, 2.0))
  first = draw(9, sampler='flow_map', nfe=2)
  before = len(traces)
  second = other(9, sampler='flow_map', nfe=2, grid='shifted', seed=3)
  assert len(traces) == before > 0
  assert not np.array_equal(first.x, second.x)
  draw(9, sampler='flow_map', nfe=4)
  assert len(traces) > before


def test_the_grid_and_its_options_reach_the_sampler():
  """One step to s leaves x1 (1 − (1 − s) · 1): u = x, from 1 to the middle."""
  draw = generator(lambda params, x, t, s, cond: x * (expand(t, x) == 1))
  start = generator(still)(3, nfe=1).x
  for grid, middle in {
    'uniform': 0.5,
    'shifted': 0.75,
  }.items():
    x = draw(3, sampler='euler', nfe=2, grid=grid).x
    np.testing.assert_allclose(x, middle * start, rtol=1e-6)
  x = draw(3, sampler='euler', nfe=2, grid={'name': 'shifted', 'shift': 9.0}).x
  np.testing.assert_allclose(x, 0.9 * start, rtol=1e-6)
  x = draw(
    3, sampler='euler', nfe=2, grid={'name': 'explicit', 'times': (1, 0.2, 0)}
  ).x
  np.testing.assert_allclose(x, 0.2 * start, rtol=1e-6)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'sampler': 'eular'},
      "^sampler = 'eular' does not exist; did you mean 'euler'",
    ),
    ({'sampler': 'heun', 'nfe': 8}, '^nfe = 8 is not possible for heun'),
    ({'cond': labels(3)}, r"^cond\['label'\] has 3 rows; it must have n = 4"),
    ({'guidance': 2.0}, r"^cond = \[\] must have one of \['label'\]"),
    ({'n': 0}, '^n = 0 must be an integer of at least 1'),
  ],
)
def test_what_cannot_be_drawn_raises(options, message):
  with pytest.raises(ValueError, match=message):
    generator(still)(**({'n': 4} | options))


def test_every_example_says_what_it_cost():
  draw = generator(apply, 0.0)
  fixed = draw(5, nfe=3, cond=labels(5))
  assert fixed.nfe.tolist() == [3] * 5
  adaptive = draw(5, sampler='rk45', nfe=None, cond=labels(5))
  assert ((adaptive.nfe - 1) % 6 == 0).all()
  assert adaptive.nfe.shape == (5,)
  np.testing.assert_allclose(
    adaptive.x,
    draw(5, sampler='flow_map', nfe=1, cond=labels(5)).x,
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
  exact, off = (generator(apply, p) for p in (0.0, 1.0))
  x0 = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
  how = {'sampler': sampler, 'nfe': nfe, 'cond': labels(6)}
  noise = exact.encode(x0, **how)
  np.testing.assert_allclose(noise.x, 2 * x0, atol=atol)
  assert noise.x.shape == (6, *SHAPE)
  moved = off.encode(x0, **how).x - noise.x
  assert (np.diff(moved.mean((1, 2, 3))) < 0).all()


def test_the_network_is_asked_with_its_own_rows():
  draw = generator(apply, 0.5)
  rng = np.random.default_rng(0)
  x, t = rng.normal(size=(6, *SHAPE)), np.linspace(0.1, 1, 6)
  u = draw.ask(x, t, t / 2, labels(6))
  assert u.dtype == np.float32
  exact = apply(
    0.5, jnp.float32(x), jnp.float32(t), jnp.float32(t / 2), labels(6)
  )
  np.testing.assert_allclose(u, exact, rtol=1e-5)
  with pytest.raises(ValueError, match=r"states\['t'\] has 5 rows; .* n = 6"):
    draw.ask(x, t[:5], t / 2, labels(6))


@pytest.mark.parametrize(
  ('sampler', 'nfe'), [('euler', 3), ('gamma', 3), ('rk45', None)]
)
def test_drawing_goes_on_from_its_first_to_the_byte(sampler, nfe):
  draw = generator(apply, 1.0)
  how = {'sampler': sampler, 'nfe': nfe, 'seed': 5}
  whole = draw(11, cond=labels(11), **how).x
  rest = draw(5, cond={'label': np.arange(6, 11)}, first=6, **how).x
  np.testing.assert_array_equal(rest, whole[6:])


def moving(params, x, t, s, cond):
  """Moves by params times the sum of all conditions."""
  total = sum(jnp.float32(c) for c in cond.values())
  return jnp.zeros_like(x) - params * expand(total, x)


def moved(*scalars, nfe=1, **how):
  """How far the examples went, over `params`, and what that cost."""
  ours, still = (generator(moving, p, scalars=scalars) for p in (2.0, 0.0))
  drawn = ours(5, sampler='euler', nfe=nfe, **how)
  start = still(5, sampler='euler', nfe=1, cond=labels(5))
  return ((drawn.x - start.x).mean((1, 2, 3)) / 2).round(4), drawn.nfe[0]


def test_guidance_leads_away_from_the_null_of_the_spec():
  move, nfe = moved(nfe=2, guidance=1.5, cond=labels(5))
  np.testing.assert_allclose(move, 1.5 * np.arange(5) - 0.5 * 10, atol=1e-4)
  assert nfe == 2


def test_a_network_that_takes_the_scale_is_conditioned_on_it():
  move, nfe = moved('guidance', guidance=1.5, cond=labels(5))
  np.testing.assert_allclose(move, np.arange(5) + 1.5, atol=1e-4)
  assert nfe == 1
  move, _ = moved('guidance', cond=labels(5))
  np.testing.assert_allclose(move, np.arange(5) + 1, atol=1e-4)


def test_a_network_that_takes_the_interval_is_conditioned_on_that_too():
  names = 'guidance', 'guidance_low', 'guidance_high'
  middle = {'scale': 3.0, 'low': 0.25, 'high': 0.5}
  move, nfe = moved(*names, guidance=middle, cond=labels(5))
  np.testing.assert_allclose(move, np.arange(5) + 3.75, atol=1e-4)
  assert nfe == 1
  move, _ = moved(*names, cond=labels(5))
  np.testing.assert_allclose(move, np.arange(5) + 2, atol=1e-4)


def test_conditions_of_the_caller_have_precedence():
  own = {**labels(5), 'guidance': np.full(5, 7.0)}
  move, _ = moved('guidance', cond=own)
  np.testing.assert_allclose(move, np.arange(5) + 7, atol=1e-4)
  move, _ = moved('speed', cond={**labels(5), 'speed': np.ones(5)})
  np.testing.assert_allclose(move, np.arange(5) + 1, atol=1e-4)


def test_there_and_back_with_a_guidance_scale_as_condition():
  draw = generator(moving, 2.0, scalars=('guidance',))
  how = {'sampler': 'euler', 'nfe': 2, 'guidance': 1.5, 'cond': labels(5)}
  drawn = draw(5, **how).x
  start = generator(still)(5, nfe=1).x
  np.testing.assert_allclose(draw.encode(drawn, **how).x, start, atol=1e-5)


class Halved:
  """A space in which a network sees half the values, of one shape alone."""

  def encode(self, x):
    assert x.shape == (4, *SHAPE)
    return x / 2

  def decode(self, x):
    assert x.shape == (4, *SHAPE)
    return x * 2


def test_a_space_decodes_what_is_drawn_and_encodes_what_goes_back():
  seen = generator(apply, 0.0, space=Halved())
  latent = generator(apply, 0.0)
  how = {'sampler': 'euler', 'nfe': 3, 'cond': labels(6)}
  drawn = seen(6, **how).x
  np.testing.assert_array_equal(drawn, 2 * latent(6, **how).x)
  back = seen.encode(drawn, **how).x
  np.testing.assert_array_equal(back, latent.encode(drawn / 2, **how).x)


def check_meshes(lines, count):
  """All meshes drew the images of one device, some with sharded weights."""
  size, *found = [json.loads(x) for x in lines if x.startswith('{')]
  assert min(size['sizes']) > 0.5  # images, not zeros
  assert len(found) == count
  for mesh in found:
    assert mesh['apart'] < 1e-4, mesh
    assert (mesh['cut'] > 3) == (mesh['mesh'][2:] != '1x1'), mesh


def test_eight_devices_draw_what_one_draws():
  lines = printed(8, SCRIPT, '2x2x2').splitlines()
  check_meshes(lines, 1)


@pytest.mark.slow
def test_every_mesh_draws_what_one_device_draws():
  meshes = '1x1x1', '2x1x1', '1x2x1', '8x1x1', '1x8x1', '2x1x4'
  check_meshes(printed(8, SCRIPT, *meshes).splitlines(), 6)


@pytest.mark.slow
def test_two_processes_draw_what_one_draws():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  runs = [f'--distributed={address},2,{i}' for i in range(2)]
  with ThreadPoolExecutor() as pool:
    texts = pool.map(lambda run: printed(2, SCRIPT, run, '2x2x1'), runs)
  for text in texts:
    check_meshes(text.splitlines(), 1)
