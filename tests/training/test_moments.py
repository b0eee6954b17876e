"""The states of optimisers in bfloat16, against those in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowdistill.training.moments import in_bfloat16
from flowdistill.training.optim import OPTIMISERS, make_optimiser
from flowdistill.training.rounding import cast

PARAMS = {'w': jnp.linspace(-1.0, 1.0, 64), 'n': jnp.zeros((), jnp.float32)}


def nbytes(tree):
  return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_moments_take_half_the_bytes(name):
  plain = OPTIMISERS[name](optax.constant_schedule(1e-3))
  full, half = (tx.init(PARAMS) for tx in (plain, in_bfloat16(plain)))
  counts = sum(x.nbytes for x in jax.tree.leaves(full) if x.dtype == jnp.int32)
  own = half.count.nbytes
  assert nbytes(half) - own - counts == (nbytes(full) - counts) / 2


def test_a_second_moment_decays_as_in_float32():
  # Rounded to the nearest it would stay: 0.1 % is less than its last digit.
  adam = optax.scale_by_adam(b2=0.999)
  grads = {'w': jnp.ones(500)}
  zero = jax.tree.map(jnp.zeros_like, grads)

  def decayed(tx, state):
    def step(state, _):
      return tx.update(zero, state)[1], None

    return jax.jit(lambda s: jax.lax.scan(step, s, None, 400)[0])(state)

  half = in_bfloat16(adam)
  start = half.update(grads, half.init(grads))[1]
  nearest = start.inner.nu['w'][0]
  assert (0.999 * nearest.astype(jnp.float32)).astype(jnp.bfloat16) == nearest
  found = decayed(half, start).inner.nu['w'].astype(jnp.float32)
  wanted = decayed(adam, adam.update(grads, adam.init(grads))[1]).nu['w']
  assert found.std() > 0  # at random
  np.testing.assert_allclose(found.mean(), wanted[0], rtol=0.02)


def test_it_comes_as_near_to_a_minimum():
  goal = jnp.linspace(-2, 2, 64)

  def end(dtype):
    tx = make_optimiser(
      optax.adam(optax.cosine_decay_schedule(0.05, 300)), state_dtype=dtype
    )

    def step(carry, _):
      w, state = carry
      updates, state = tx.update(w - goal, state, w)
      return (w + updates, state), None

    w = jnp.zeros(64)
    run = jax.jit(lambda c: jax.lax.scan(step, c, None, 300)[0])
    return jnp.abs(run((w, tx.init(w)))[0] - goal).max()

  assert end('bfloat16') < 2 * end('float32') + 1e-3


def test_sums_of_gradients_stay_float32():
  tx = make_optimiser(
    OPTIMISERS['adam'](optax.constant_schedule(1e-3)),
    accumulate=2,
    state_dtype='bfloat16',
  )
  state = tx.init(PARAMS)
  assert state.acc_grads['w'].dtype == jnp.float32
  kinds = {x.dtype for x in jax.tree.leaves(state.inner_opt_state)}
  assert kinds == {jnp.dtype('bfloat16'), jnp.dtype('int32')}


def test_the_same_update_rounds_in_the_same_way():
  tx = in_bfloat16(optax.scale_by_adam())
  grads = jax.tree.map(lambda x: x + 0.3, PARAMS)
  one, other = (tx.update(grads, tx.init(PARAMS))[1] for _ in range(2))
  jax.tree.map(
    np.testing.assert_array_equal, cast(one, 'float32'), cast(other, 'float32')
  )
