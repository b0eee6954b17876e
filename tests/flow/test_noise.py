"""Numbered noise: the same whenever it is drawn, fresh for every number."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from flowdistill.flow.noise import drawn_again, numbered

SHAPE = (4, 3)


def named(seed, index):
  """(seed, index) of each, uint32 [b, 2]."""
  index = np.asarray(index, np.uint32)
  return jnp.stack([jnp.full_like(index, seed), index], axis=1)


def test_it_is_drawn_again_from_its_seed_and_index():
  index = jnp.array([5, 0, 2**31 + 3], jnp.uint32)
  x1, _ = numbered(jax.random.key(7), index, SHAPE)
  again = jax.jit(drawn_again, static_argnums=1)(named(7, index), SHAPE)
  np.testing.assert_allclose(again, x1, rtol=0, atol=1e-6)
  assert again.dtype == jnp.float32


def test_it_does_not_depend_on_what_is_drawn_beside_it():
  alone = drawn_again(named(3, [11]), SHAPE)
  among = drawn_again(jnp.concatenate([named(9, [1]), named(3, [11])]), SHAPE)
  np.testing.assert_allclose(among[1], alone[0], rtol=0, atol=1e-6)


def test_seeds_and_indices_are_all_told_apart():
  both = [named(0, [0, 1]), named(1, [0, 1]), named(2**32 - 1, [0])]
  x1 = np.asarray(drawn_again(jnp.concatenate(both), SHAPE))
  assert len({x.tobytes() for x in x1}) == 5


def test_it_is_standard_normal_and_its_keys_are_others():
  x1, keys = numbered(jax.random.key(0), jnp.arange(4000), SHAPE)
  assert stats.kstest(np.ravel(x1), 'norm').pvalue > 1e-3
  after = jax.vmap(lambda key: jax.random.normal(key, SHAPE))(keys)
  correlation = np.corrcoef(np.ravel(x1), np.ravel(after))[0, 1]
  assert abs(correlation) < 0.02
