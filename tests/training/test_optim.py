"""Optimisers against first steps by hand, schedules at their corners."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowdistill.training.lengths import Length
from flowdistill.training.optim import OPTIMISERS, SCHEDULES, make_optimiser

RATE = 0.1
to_steps = functools.partial(Length.to_steps, batch_size=10, dataset_size=100)


def updates(tx, gradients, params):
  """All updates that a transformation makes of a list of gradients."""
  state, made = jax.jit(tx.init)(params), []
  step = jax.jit(tx.update)
  for gradient in gradients:
    update, state = step(gradient, state, params)
    made.append(update)
  return made


def test_adam_by_hand():
  b1, b2, eps = 0.8, 0.9, 1e-3
  tx = OPTIMISERS['adam'](lambda _: RATE, b1=b1, b2=b2, eps=eps)
  g, m, v = [2.0, -0.5, 1.0], 0.0, 0.0
  made = updates(tx, [jnp.array([x]) for x in g], jnp.zeros(1))
  for k, x in enumerate(g, start=1):
    m, v = b1 * m + (1 - b1) * x, b2 * v + (1 - b2) * x * x
    step = (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + eps)
    np.testing.assert_allclose(made[k - 1], [-RATE * step], rtol=1e-5)


def test_adamw_decays_by_rate_times_weight_decay():
  params, gradient = jnp.array([4.0, -2.0]), jnp.array([1.0, 0.5])
  adam = OPTIMISERS['adam'](lambda _: RATE)
  adamw = OPTIMISERS['adamw'](lambda _: RATE, weight_decay=0.3)
  (plain,), (decayed,) = (
    updates(tx, [gradient], params) for tx in (adam, adamw)
  )
  np.testing.assert_allclose(decayed - plain, -RATE * 0.3 * params, rtol=1e-5)


def test_radam_starts_as_momentum_and_is_then_rectified():
  # Liu et al., Algorithm 2. (At b2 = 0.999 float32 costs optax 1 % of rho.)
  b1, b2 = 0.9, 0.98
  tx = OPTIMISERS['radam'](lambda _: RATE, b1=b1, b2=b2)
  made = updates(tx, [jnp.ones(1)] * 8, jnp.zeros(1))
  rho_max = 2 / (1 - b2) - 1
  for k in range(1, 9):
    rho = rho_max - 2 * k * b2**k / (1 - b2**k)
    step = 1.0  # A constant gradient of 1 has bias-corrected moments 1 and 1.
    if rho >= 5:
      step = np.sqrt(
        ((rho - 4) * (rho - 2) * rho_max)
        / ((rho_max - 4) * (rho_max - 2) * rho)
      )
    np.testing.assert_allclose(made[k - 1], [-RATE * step], rtol=2e-3)


@pytest.mark.parametrize('name', sorted(OPTIMISERS))
def test_the_schedule_counts_updates(name):
  tx = OPTIMISERS[name](lambda count: jnp.where(count == 2, 0.0, RATE))
  made = updates(tx, [jnp.ones(1)] * 4, jnp.ones(1))
  assert [bool(u[0] == 0) for u in made] == [False, False, True, False]


@pytest.mark.parametrize('name', sorted(SCHEDULES))
@pytest.mark.parametrize(
  'warmup', [Length(steps=20), Length(images=200), Length(epochs=2.0)]
)
def test_warmup_is_linear_from_zero(name, warmup):
  schedule = SCHEDULES[name](100, to_steps, learning_rate=RATE, warmup=warmup)
  rates = [float(schedule(jnp.int32(k))) for k in (0, 5, 10, 20)]
  np.testing.assert_allclose(
    rates, [0, RATE / 4, RATE / 2, RATE], rtol=1e-6, atol=1e-9
  )


def test_constant():
  schedule = SCHEDULES['constant'](100, to_steps, learning_rate=RATE)
  rates = [float(schedule(k)) for k in (0, 50, 100, 1000)]
  np.testing.assert_allclose(rates, RATE, rtol=1e-6)


@pytest.mark.parametrize('final', [0.0, 0.2, 1.0])
@pytest.mark.parametrize('warmup', [0, 20])
def test_cosine(final, warmup):
  schedule = SCHEDULES['cosine'](
    120,
    to_steps,
    learning_rate=RATE,
    warmup=Length(steps=warmup),
    final=final,
  )
  for share in (0.0, 0.25, 0.5, 1.0, 2.0):
    height = (1 + np.cos(np.pi * min(share, 1))) / 2
    expected = RATE * (final + (1 - final) * height)
    step = jnp.int32(warmup + share * (120 - warmup))
    np.testing.assert_allclose(schedule(step), expected, atol=1e-7)


@pytest.mark.parametrize('name', sorted(SCHEDULES))
@pytest.mark.parametrize('total', [10, 4])
def test_a_run_may_end_within_the_warmup(name, total):
  schedule = SCHEDULES[name](
    total, to_steps, learning_rate=RATE, warmup=Length(steps=10)
  )
  np.testing.assert_allclose(schedule(3), 0.3 * RATE, rtol=1e-6)


def test_clip_scales_to_the_global_norm():
  tx = make_optimiser(optax.sgd(1.0), clip=2.0)
  gradient = {'a': jnp.array([3.0]), 'b': jnp.array([4.0])}
  small = jax.tree.map(lambda g: g / 10, gradient)
  large, kept = updates(tx, [gradient, small], gradient)
  np.testing.assert_allclose(large['a'], -3 * 2 / 5, rtol=1e-6)
  np.testing.assert_allclose(large['b'], -4 * 2 / 5, rtol=1e-6)
  np.testing.assert_allclose(kept['b'], -0.4, rtol=1e-6)


@pytest.mark.parametrize('name', OPTIMISERS)
def test_what_is_not_selected_stays_and_is_in_no_norm(name):
  inner = OPTIMISERS[name](lambda _: RATE)
  params = {'a': {'w': jnp.array([3.0])}, 'b': jnp.array([4.0])}
  only = updates(make_optimiser(inner, clip=1.0, only='a.*'), [params], params)
  alone = {'a': params['a']}
  expected = updates(make_optimiser(inner, clip=1.0), [alone], alone)
  np.testing.assert_array_equal(only[0]['b'], [0.0])
  np.testing.assert_array_equal(only[0]['a']['w'], expected[0]['a']['w'])


def test_equal_micro_steps_make_one_update():
  k = 3
  schedule = SCHEDULES['cosine'](5, to_steps, learning_rate=RATE)
  inner = OPTIMISERS['adam'](schedule)
  params = jnp.array([1.0, -2.0, 3.0])
  gradients = [jnp.array([0.1, 1.0, -3.0]), jnp.array([2.0, 0.5, 1.0])]
  once = updates(make_optimiser(inner, clip=1.5), gradients, params)
  repeated = [g for g in gradients for _ in range(k)]
  tx = make_optimiser(inner, clip=1.5, accumulate=k)
  for i, update in enumerate(updates(tx, repeated, params)):
    expected = once[i // k] if i % k == k - 1 else jnp.zeros(3)
    np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_the_mean_of_micro_steps_is_what_is_clipped():
  tx = make_optimiser(optax.sgd(1.0), clip=1.0, accumulate=2)
  made = updates(tx, [jnp.array([100.0]), jnp.array([-99.0])], jnp.zeros(1))
  np.testing.assert_allclose(made[1], [-0.5], rtol=1e-4)


def optimiser(name='adam', **options):
  return OPTIMISERS[name](lambda _: RATE, **options)


def schedule(name='cosine', **options):
  return SCHEDULES[name](100, to_steps, **options)


@pytest.mark.parametrize(
  ('build', 'options', 'message'),
  [
    (optimiser, {'b1': 1.0}, r'b1 = 1.0 must lie in \[0, 1\)'),
    (optimiser, {'b2': -0.1}, r'b2 = -0.1 must lie in \[0, 1\)'),
    (optimiser, {'eps': 0.0}, 'eps = 0.0 must be above 0'),
    (optimiser, {'name': 'radam', 'b1': 1.5}, 'b1 = 1.5'),
    (optimiser, {'name': 'adamw', 'b2': 1.0}, 'b2 = 1.0'),
    (optimiser, {'name': 'muon', 'momentum': 1.0}, 'momentum = 1.0'),
    (optimiser, {'name': 'muon', 'weight_decay': -1.0}, 'weight_decay = -1.0'),
    (
      optimiser,
      {'name': 'adamw', 'weight_decay': -1.0},
      'weight_decay = -1.0 must be at least 0',
    ),
    (schedule, {'learning_rate': 0.0}, 'learning_rate = 0.0 must be above 0'),
    (schedule, {'learning_rate': -1e-3}, 'learning_rate = -0.001'),
    (schedule, {'learning_rate': float('nan')}, 'learning_rate = nan'),
    (schedule, {'final': 1.5}, r'final = 1.5 must lie in \[0, 1\]'),
    (schedule, {'name': 'constant', 'learning_rate': 0.0}, 'learning_rate'),
    (
      functools.partial(make_optimiser, optax.sgd(1.0)),
      {'clip': 0.0},
      'clip = 0.0',
    ),
    (
      functools.partial(make_optimiser, optax.sgd(1.0)),
      {'accumulate': 0},
      'accumulate = 0 must be at least 1',
    ),
    (
      functools.partial(make_optimiser, optax.sgd(1.0)),
      {'accumulate': 1.5},
      'accumulate = 1.5 must be an integer',
    ),
  ],
)
def test_values_out_of_range(build, options, message):
  with pytest.raises(ValueError, match=message):
    build(**options)


WITHOUT_A_DEVICE = """
import jax
from flowdistill.training.lengths import Length
from flowdistill.training.optim import OPTIMISERS, SCHEDULES, make_optimiser
for schedule in SCHEDULES.values():
  for optimiser in OPTIMISERS.values():
    rate = schedule(9, lambda length: length.steps, warmup=Length(steps=3))
    make_optimiser(optimiser(rate), clip=1.0, accumulate=2)
try:
  jax.devices()
except RuntimeError:
  print('no device')
"""


def test_building_touches_no_device():
  done = subprocess.run(
    [sys.executable, '-c', WITHOUT_A_DEVICE],
    env={**os.environ, 'JAX_PLATFORMS': 'no_such_platform'},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'no device\n', done.stderr
