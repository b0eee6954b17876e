import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.embeddings import TimePair, fourier_features


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
