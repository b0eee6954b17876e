"""EMAs: their decays, buffers of their own, and how a config spells them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.training import ema
from flowdistill.training.ema import EMAS, Ema, named
from flowdistill.training.lengths import Length

to_steps = functools.partial(Length.to_steps, batch_size=1, dataset_size=1)


def make(name, total=1000, **options):
  """An EMA of a run of so many updates, one example in each."""
  return EMAS[name](total, to_steps, **options)


@pytest.mark.parametrize('half_life', [1, 7, 100])
def test_a_half_life_halves_the_distance_to_a_constant(half_life):
  average, target = {'w': jnp.array([3.0, -5.0])}, {'w': jnp.array([1.0, 1.0])}
  for step in range(half_life):
    d = ema.halving(step, half_life, None)
    average = ema.update(average, target, d)
  np.testing.assert_allclose(average['w'], [2.0, -2.0], rtol=1e-5)


@pytest.mark.parametrize('step', [1, 10, 100, 10_000])
@pytest.mark.parametrize('half_life', [1, 20, 3906])
def test_the_ramp_caps_the_half_life(step, half_life):
  # EDM counts images: 0.5 ** (batch / max(min(half_life, images * ramp), ε)).
  batch, ramp = 128, 0.05
  capped = max(min(half_life * batch, step * batch * ramp), 1e-8)
  expected = 0.5 ** (batch / capped)
  actual = ema.halving(jnp.uint32(step), half_life, ramp)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-30)


def test_a_ramp_starts_at_the_first_parameters_it_sees():
  params = {'w': jax.random.normal(jax.random.key(0), (100,))}
  average = {'w': jnp.full((100,), 1e6)}
  average = ema.update(average, params, ema.halving(0, 500, 0.05))
  np.testing.assert_array_equal(average['w'], params['w'])


def test_no_half_life_is_no_average():
  assert ema.halving(1000, 0, None) == 0
  assert ema.halving(1000, 0, 0.05) == 0


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
  average = ema.update(average, small, ema.halving(0, 1000, None))
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
  slow = Ema(lambda step: jnp.float32(0.999), dtype='bfloat16')
  start = slow.init({n: jnp.ones(99) for n in 'ab'})
  target = {n: jnp.full(99, 2.0) for n in 'ab'}
  first, second, again = (
    slow.advance(jnp.int32(k), start, target) for k in (1, 2, 1)
  )
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


def test_a_decay_follows_the_recursion_and_stays_at_its_last_value():
  average = make('decay', 3, decay=0.9)
  first, second, last = kappas(0.9, 3)
  assert (first, second) == (0.0, 0.45)
  params = {'w': jnp.array([1.0, -2.0])}
  for step, d in ((0, first), (1, second), (2, last), (3, last), (999, last)):
    before = {'w': jnp.array([3.0, 5.0])}
    after = average.advance(jnp.int32(step), before, params)
    expected = [d * 3 + (1 - d) * 1, d * 5 - (1 - d) * 2]
    np.testing.assert_allclose(after['w'], expected, rtol=1e-6)


def test_a_half_life_is_that_of_its_length_with_its_ramp():
  average = make('half_life', half_life=Length(images=30), ramp=0.5)
  for step in (1, 40, 59, 60, 61, 1000):
    expected = 0.5 ** (1 / min(30, 0.5 * step))
    np.testing.assert_allclose(average.decay(step), expected, rtol=1e-6)


HALF = {'half_life': Length(steps=3), 'ramp': None}


@pytest.mark.parametrize(
  ('name', 'options'), [('half_life', HALF), ('decay', {'decay': 0.5})]
)
def test_an_ema_is_frozen_from_until_on(name, options):
  average, p = {'w': jnp.array([0.3])}, {'w': jnp.array([0.7])}
  early = make(name, until=Length(steps=5), **options)
  d = {'half_life': 0.5 ** (1 / 3), 'decay': kappas(0.5, 5)[4]}[name]
  before = early.advance(jnp.int32(4), average, p)
  np.testing.assert_allclose(before['w'], 0.7 - 0.4 * d, rtol=1e-6)
  for step in (5, 6, 1000):
    after = early.advance(jnp.int32(step), average, p)
    np.testing.assert_array_equal(after['w'], average['w'])


@pytest.mark.parametrize('name', sorted(EMAS))
def test_the_dtype_is_that_of_the_weights(name):
  params = {'w': jnp.ones(3)}
  for dtype in ('float32', 'bfloat16'):
    average = make(name, dtype=dtype)
    start = average.init(params)
    end = average.advance(jnp.int32(9), start, params)
    assert start['w'].dtype == end['w'].dtype == jnp.dtype(dtype)


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('half_life', {'half_life': Length(steps=0)}, '= 0 steps must be above 0'),
    *(
      ('half_life', {'ramp': ramp}, f'ramp = {ramp} must be above 0, or None')
      for ramp in (0.0, -1.0, float('nan'), float('inf'))
    ),
    *(
      ('decay', {'decay': d}, rf'decay = {d} must lie in \[0, 1\)')
      for d in (-0.1, 1.0, float('nan'))
    ),
    *((n, {'dtype': 'int8'}, "dtype = 'int8' must be one of") for n in EMAS),
  ],
)
def test_values_out_of_range(name, options, message):
  with pytest.raises(ValueError, match=message):
    make(name, **options)


DEFAULTS = {'half_life': {'images': 500_000}, 'ramp': 0.05}
COMMON = {'until': None, 'dtype': 'float32'}


@pytest.mark.parametrize(
  ('spec', 'expected'),
  [
    ({}, {'name': 'half_life'}),
    ({'dtype': 'bfloat16'}, {'name': 'half_life', 'dtype': 'bfloat16'}),
    ({'ramp': None}, {'name': 'half_life', 'ramp': None}),
    ({'half_life': 5}, {'name': 'half_life', 'half_life': 5}),
    ({'until': 5, 'decay': 0.9}, {'name': 'decay', 'until': 5, 'decay': 0.9}),
    ({'decay': None}, {'name': 'half_life'}),
    ({'sigma_rel': 0.05}, {'name': 'power', 'sigma_rel': 0.05}),
    ({'warmup': 'power'}, {'name': 'decay', 'warmup': 'power'}),
    (
      {'ramp': 1.0, 'warmup': 'a'},
      {'name': 'half_life', 'ramp': 1.0, 'warmup': 'a'},
    ),
    ({'name': 'decay', 'until': 5}, {'name': 'decay', 'until': 5}),
    # As a run was recorded before kinds had names.
    (
      {**DEFAULTS, 'ramp': None, **COMMON, 'decay': None},
      {'name': 'half_life', **DEFAULTS, 'ramp': None, **COMMON},
    ),
    (
      {**DEFAULTS, **COMMON, 'decay': 0.9},
      {'name': 'decay', 'decay': 0.9, **COMMON},
    ),
  ],
)
def test_the_kind_follows_from_the_options(spec, expected):
  assert named(spec) == expected


def test_options_of_two_kinds_are_not_dropped():
  """So that the resolver refuses them."""
  spec = {'half_life': 5, 'decay': 0.9}
  assert named(spec).items() >= spec.items()
