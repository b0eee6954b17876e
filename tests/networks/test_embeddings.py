import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.embeddings import Scalars, TimePair, fourier_features


def test_frequencies_are_geometric_from_one_to_the_highest():
  t = jnp.array([0.0, 0.3, 1.0])
  features = fourier_features(t, 10, max_frequency=16.0)
  angles = np.asarray(t)[:, None] * np.array([1, 2, 4, 8, 16])
  expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
  np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(
  ('given', 'expected'),
  [('bfloat16', 'float32'), ('float32', 'float32'), ('float64', 'float64')],
)
def test_times_are_embedded_in_float32_at_least(given, expected):
  t = jnp.array([0.3], given)
  assert fourier_features(t, 4, max_frequency=16.0).dtype == expected


def test_the_pair_is_one_embedding_and_a_share_of_another():
  """e(t, s) = e₁(t) + (t − s) e₂(s), with an e₂ that was learnt."""
  pair = TimePair(4, max_frequency=16.0, rngs=nnx.Rngs(0))
  pair.of_s.second.kernel[...] += 1.0
  t, s = jnp.array([0.9, 0.8]), jnp.array([0.4, 0.1])
  expected = pair.of_t(t) + jnp.array([[0.5], [0.7]]) * pair.of_s(s)
  np.testing.assert_allclose(pair(t, s), expected, rtol=1e-5)
  assert np.abs(pair.of_s(s)).min() > 1e-2


def test_times_are_subtracted_in_float32():
  pair = TimePair(4, max_frequency=16.0, rngs=nnx.Rngs(0))
  pair.of_s.second.kernel[...] += 1.0
  t, s = jnp.array([0.9], 'bfloat16'), jnp.array([0.1], 'bfloat16')
  exact = pair(t.astype('float32'), s.astype('float32'))
  assert t - s != t.astype('float32') - s.astype('float32')
  np.testing.assert_array_equal(pair(t, s), exact)


def test_scalars_are_the_sum_of_their_embeddings():
  """Each of its own, and of names in any order."""
  scalars = Scalars(('a', 'b'), 4, max_frequency=16.0, rngs=nnx.Rngs(0))
  cond = {'b': jnp.array([2.0, 3.0]), 'c': None, 'a': jnp.array([0.5, 1])}
  assert not np.any(scalars(cond))
  scalars.of['a'].second.kernel[...] += 1.0
  scalars.of['b'].second.kernel[...] += 2.0
  expected = scalars.of['a'](cond['a']) + scalars.of['b'](cond['b'])
  np.testing.assert_allclose(scalars(cond), expected, rtol=1e-6)


@pytest.mark.parametrize(
  ('cond', 'message'),
  [
    ({}, r"cond has \[\] and no 'a', which this network takes"),
    ({'b': jnp.ones(2)}, r"has \['b'\] and no 'a'.*give cond\['a'\].*or take"),
    ({'a': jnp.ones(())}, r"cond\['a'\] has shape \(\); it must be \[b\]"),
    ({'a': jnp.ones((2, 1))}, r"cond\['a'\] has shape \(2, 1\)"),
  ],
)
def test_a_scalar_that_is_missing_or_of_another_shape_raises(cond, message):
  scalars = Scalars(('a',), 4, max_frequency=16.0, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=message):
    scalars(cond)
