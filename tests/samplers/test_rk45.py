"""Adaptive Runge-Kutta: SciPy's, example by example, and with its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian, Mixture
from scipy.integrate import solve_ivp
from solving import LINE, keys

from flowdistill.build.sampling import Generator
from flowdistill.flow.spec import DataSpec
from flowdistill.samplers.control import Control
from flowdistill.samplers.integrate import adapt
from flowdistill.samplers.ode import euler
from flowdistill.samplers.rk45 import rk45

FLOW = Mixture(mean=1.0, std=0.2)


def velocity(x, t, s):
  return FLOW.velocity(x, t)


@functools.cache
def runner(**options):
  sampler = rk45(velocity, **options)
  return jax.jit(lambda ends, x: adapt(sampler, ends, x, keys(len(x))))


def run(ends, x, **options):
  return [np.asarray(a) for a in runner(**options)(jnp.array(ends), x)]


def scipys(ends, x, **options):
  """The solution, and the calls, of one example [d] alone."""
  found = solve_ivp(
    lambda t, x: np.asarray(FLOW.velocity(x[None], np.array([t])))[0],
    ends,
    x,
    method='RK45',
    **options,
  )
  return found.y[:, -1], found.nfev


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('ends', [(1.0, 0.0), (0.0, 0.95)])
@pytest.mark.parametrize(
  'options',
  [{'first_step': 0.05}, {'rtol': 1e-7, 'atol': 1e-3, 'first_step': 0.8}],
)
def test_every_example_is_solved_as_scipy_solves_it_alone(ends, options):
  """The same steps, so the same x and the same number of calls."""
  x = np.random.default_rng(0).normal(size=(5, 2))
  ours, nfe, arrived = run(ends, x, **options)
  assert arrived.all()
  wanted = {'rtol': 1e-5, 'atol': 1e-5} | options
  theirs, theirs_nfe = zip(
    *(scipys(ends, each, **wanted) for each in x), strict=True
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-9)
  np.testing.assert_array_equal(nfe, theirs_nfe)
  assert len(set(nfe)) > 1 or 'rtol' in options


@pytest.mark.usefixtures('x64')
def test_it_is_as_exact_as_it_is_told():
  exact = FLOW.flow_map(LINE, *np.repeat([[1.0], [0.0]], len(LINE), axis=1))
  for rtol in (1e-4, 1e-8):
    x, _, _ = run((1.0, 0.0), LINE, rtol=rtol, atol=rtol)
    assert rtol / 100 < np.max(np.abs(x - exact)) < 20 * rtol


def test_no_example_depends_on_its_neighbours():
  """To the byte in a batch of one shape, to tolerance in another."""
  x = np.linspace(-2, 2, 6, dtype=np.float32)[:, None]
  other = np.where(np.arange(6)[:, None] == 2, x, 30 * x + 1)
  whole, among = run((1.0, 0.0), x), run((1.0, 0.0), other)
  alone = run((1.0, 0.0), x[2:3])
  for ours, theirs, single in zip(whole, among, alone, strict=True):
    assert ours[2] == theirs[2]
    np.testing.assert_allclose(ours[2], single[0], rtol=1e-5)
  assert whole[1].max() != among[1].max()


def test_it_counts_every_call():
  """One at the start and six for each attempt, failed ones too."""
  asked = []

  def u(x, t, s):
    jax.debug.callback(lambda t: asked.append(t), t)
    return FLOW.velocity(x, t)

  for first_step in (0.05, 1.0):  # no step fails, and some do
    asked.clear()
    sampler = rk45(u, first_step=first_step)
    _, nfe, _ = adapt(
      sampler, jnp.array([1.0, 0.0]), 0.3 * jnp.ones((1, 1)), keys(1)
    )
    jax.effects_barrier()
    assert nfe == len(asked)


@pytest.mark.parametrize('network', ['hard', 'not finite'])
def test_it_gives_up_after_max_steps(network):
  def apply(params, x, t, s, cond):
    v = Gaussian(std=0.5).velocity(x, t)
    return v if network == 'hard' else jnp.where(t[:, None] < 0.5, jnp.nan, v)

  draw = Generator(apply, (), DataSpec((2,)), batch_size=4)
  with pytest.raises(
    ValueError,
    match=r'^rtol = 1e-05 must .* max_steps = 3: .* 4 of 4 examples',
  ):
    draw(5, sampler='rk45', nfe=None, max_steps=3)


def test_it_needs_a_sampler_with_a_control():
  with pytest.raises(ValueError, match='no control'):
    adapt(euler(velocity), jnp.array([1.0, 0.0]), jnp.ones((1, 1)), keys(1))


def control(**options):
  defaults = {
    'rtol': 1e-5,
    'atol': 1e-5,
    'order': 4,
    'safety': 0.9,
    'min_factor': 0.2,
    'max_factor': 10.0,
    'first_step': 0.05,
    'max_steps': 1000,
  }
  return Control(**(defaults | options))


def test_how_a_step_follows_the_error():
  size = jnp.array([0.0, 1e-9, 1.0, 32.0, 1e9, jnp.inf, jnp.nan])
  no, yes = jnp.zeros(7, bool), jnp.ones(7, bool)
  np.testing.assert_allclose(
    control().factor(size, no), [10, 10, 0.9, 0.45, 0.2, 0.2, 0.2], rtol=1e-6
  )
  np.testing.assert_allclose(control().factor(size, yes)[:3], [1, 1, 0.9])
  other = control(safety=0.5, min_factor=0.3, max_factor=4.0, order=1)
  np.testing.assert_allclose(
    other.factor(jnp.array([0.0, 0.25, 4.0]), no[:3]), [4, 1, 0.3]
  )


def test_the_error_is_measured_over_what_is_allowed():
  x_t, x_s = jnp.array([[3.0, -1.0]]), jnp.array([[-5.0, 0.0]])
  size = control(rtol=0.1, atol=0.5).size(x_t, x_s, jnp.array([[1.0, 1.2]]))
  np.testing.assert_allclose(size, [((1 + 2**2) / 2) ** 0.5], rtol=1e-6)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('rtol', 0.0),
    ('atol', -1e-9),
    ('safety', 1.0),
    ('min_factor', 0.0),
    ('max_factor', 1.0),
    ('first_step', 0.0),
    ('first_step', 1.5),
    ('max_steps', 0),
    ('rtol', float('nan')),
  ],
)
def test_options_out_of_range_raise(name, value):
  with pytest.raises(ValueError, match=f'^{name} = {value} must'):
    rk45(velocity, **{name: value})
