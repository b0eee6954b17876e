"""Averages: their half-life, their ramp, and buffers of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.training import ema
from flowdistill.training.ema import Ema
from flowdistill.training.lengths import Length


@pytest.mark.parametrize('half_life', [1, 7, 100])
def test_a_half_life_halves_the_distance_to_a_constant(half_life):
  average, target = {'w': jnp.array([3.0, -5.0])}, {'w': jnp.array([1.0, 1.0])}
  for step in range(half_life):
    d = ema.decay(step, half_life, None)
    average = ema.update(average, target, d)
  np.testing.assert_allclose(average['w'], [2.0, -2.0], rtol=1e-5)


@pytest.mark.parametrize('step', [1, 10, 100, 10_000])
@pytest.mark.parametrize('half_life', [1, 20, 3906])
def test_the_ramp_caps_the_half_life(step, half_life):
  # EDM counts images: 0.5 ** (batch / max(min(half_life, images * ramp), ε)).
  batch, ramp = 128, 0.05
  capped = max(min(half_life * batch, step * batch * ramp), 1e-8)
  expected = 0.5 ** (batch / capped)
  actual = ema.decay(jnp.uint32(step), half_life, ramp)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-30)


def test_a_ramp_starts_at_the_first_parameters_it_sees():
  params = {'w': jax.random.normal(jax.random.key(0), (100,))}
  average = {'w': jnp.full((100,), 1e6)}
  average = ema.update(average, params, ema.decay(0, 500, 0.05))
  np.testing.assert_array_equal(average['w'], params['w'])


def test_no_half_life_is_no_average():
  assert ema.decay(1000, 0, None) == 0
  assert ema.decay(1000, 0, 0.05) == 0


def test_an_average_of_a_constant_is_that_constant():
  params = {'w': jax.random.normal(jax.random.key(0), (100,))}
  average = ema.init_ema(params)
  for d in (0.0, 0.3, 0.9999):
    average = ema.update(average, params, d)
  np.testing.assert_array_equal(average['w'], params['w'])


def test_an_average_survives_the_donation_of_its_parameters():
  state = nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
  before = jax.tree.map(np.array, state)
  for init in (ema.init_ema, jax.jit(ema.init_ema)):
    average = init(state)
    scale = jax.jit(
      lambda t: jax.tree.map(lambda x: 2 * x, t), donate_argnums=0
    )
    state = jax.tree.map(lambda x: x / 2, scale(state))
    assert jax.tree.structure(average) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, average, before)


def test_averages_are_float32():
  params = {'w': jnp.full((4,), 1.5, jnp.bfloat16)}
  average = ema.init_ema(params)
  assert average['w'].dtype == jnp.float32
  small = {'w': jnp.full((4,), 1.5 + 2**-7, jnp.bfloat16)}
  average = ema.update(average, small, ema.decay(0, 1000, None))
  assert average['w'].dtype == jnp.float32
  assert 1.5 < average['w'][0] < 1.5 + 2**-8


def far(dtype, steps, key=True):
  """The mean of an average that goes from 1 to a constant 2, d = 0.999."""
  target = {'w': jnp.full(4096, 2.0)}

  def one(step, average):
    own = jax.random.fold_in(jax.random.key(0), step) if key else None
    return ema.update(average, target, 0.999, own)

  start = ema.init_ema({'w': jnp.ones(4096)}, dtype)
  end = jax.jit(lambda: jax.lax.fori_loop(0, steps, one, start))()
  assert end['w'].dtype == jnp.dtype(dtype)
  return float(jnp.mean(end['w'].astype(jnp.float32)))


def test_an_average_in_bfloat16_goes_where_that_in_float32_goes():
  """Rounded to the nearest it would not: a step is less than half a digit."""
  for steps in (100, 1000):
    exact = 2 - 0.999**steps
    assert far('float32', steps) == pytest.approx(exact, rel=1e-4)
    assert far('bfloat16', steps) == pytest.approx(exact, abs=1e-3)
    assert far('bfloat16', steps, key=False) == 1.0


def test_every_array_and_every_step_have_a_chance_of_their_own():
  options = {'half_life': 500, 'ramp': None, 'until': None}
  start = ema.init_ema({n: jnp.ones(99) for n in 'ab'}, 'bfloat16')
  target = {n: jnp.full(99, 2.0) for n in 'ab'}
  first, second = (
    ema.advance(jnp.int32(k), start, target, **options) for k in (1, 2)
  )
  again = ema.advance(jnp.int32(1), start, target, **options)
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert np.any(np.asarray(first['a'] != first['b']))
  assert np.any(np.asarray(first['a'] != second['a']))


def kappas(decay, n):
  """The recursion of TwinFlow's teacher, as it is written."""
  k, seen = 0.0, []
  for _ in range(n):
    seen.append(k)
    k = k + (1 - k) * (decay - k) / 2
  return seen


@pytest.mark.parametrize('decay', [0.9, 0.99, 0.999])
def test_a_decay_warms_up_from_zero(decay):
  table = Ema(decay=decay).warm(10**6)
  n = len(table)
  assert 10 < n * (1 - decay) < 40  # and not the million that was asked for
  np.testing.assert_allclose(table, kappas(decay, n), rtol=1e-6)
  np.testing.assert_allclose(table[-1], decay, atol=1e-7)
  short = Ema(decay=decay).warm(7)
  np.testing.assert_array_equal(short, table[:7])
  assert table.dtype == np.float32


def test_an_average_goes_by_the_table_and_then_by_its_last():
  warm = Ema(decay=0.9).warm(3)
  first, second, last = kappas(0.9, 3)
  assert (first, second) == (0.0, 0.45)
  params = {'w': jnp.array([1.0, -2.0])}
  for step, d in ((0, first), (1, second), (2, last), (3, last), (999, last)):
    average = ema.advance(
      jnp.int32(step),
      {'w': jnp.array([3.0, 5.0])},
      params,
      half_life=1e9,
      ramp=None,
      until=None,
      warm=warm,
    )
    expected = [d * 3 + (1 - d) * 1, d * 5 - (1 - d) * 2]
    np.testing.assert_allclose(average['w'], expected, rtol=1e-6)


def test_a_decay_stands_still_from_until_on_too():
  average, p = {'w': jnp.array([0.3])}, {'w': jnp.array([0.7])}
  options = {'half_life': 3, 'ramp': None, 'warm': Ema(decay=0.5).warm(9)}
  after = ema.advance(jnp.int32(5), average, p, until=5, **options)
  np.testing.assert_array_equal(after['w'], average['w'])
  before = ema.advance(jnp.int32(4), average, p, until=5, **options)
  assert before['w'] > average['w']


def test_a_half_life_has_no_table():
  assert Ema().warm(100) is None
  assert Ema(decay=0.0).warm(100).tolist() == [0.0]


def test_options():
  with pytest.raises(ValueError, match="dtype = 'int8' must be one of 'float"):
    Ema(dtype='int8')
  assert Ema().ramp == 0.05
  assert Ema(half_life=Length(steps=3), ramp=None).ramp is None
  for ramp in (0.0, -1.0, float('nan'), float('inf')):
    with pytest.raises(ValueError, match=f'ramp is {ramp}; it is above 0'):
      Ema(ramp=ramp)
  for decay in (-0.1, 1.0, float('nan')):
    with pytest.raises(ValueError, match=f'decay = {decay} must lie in'):
      Ema(decay=decay)
  for other in ({'ramp': None}, {'half_life': Length(steps=3)}):
    with pytest.raises(ValueError, match='decay = 0.9 must be None beside'):
      Ema(decay=0.9, **other)


def test_an_average_stands_still_from_until_on():
  average, p = {'w': jnp.array([0.3])}, {'w': jnp.array([0.7])}
  options = {'half_life': 3, 'ramp': None, 'until': 5}
  before = ema.advance(jnp.int32(4), average, p, **options)
  np.testing.assert_allclose(before['w'], 0.7 - 0.4 * 0.5 ** (1 / 3), rtol=1e-6)
  after = ema.advance(jnp.int32(5), average, p, **options)
  np.testing.assert_array_equal(after['w'], average['w'])
