"""Features of a hidden layer, at each place by itself."""

import jax
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks.projector import make_projector, projected


@pytest.fixture(scope='module')
def projector():
  return make_projector(8, 3, rngs=nnx.Rngs(0))


def test_each_place_is_seen_by_itself(projector):
  h = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
  found = projected(projector, h)
  assert found.shape == (2, 4, 4, 3)
  moved = projected(projector, h[:, ::-1].swapaxes(1, 2))
  np.testing.assert_allclose(moved, found[:, ::-1].swapaxes(1, 2), atol=1e-6)


def test_it_is_three_linear_layers_and_silu_between(projector):
  h = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
  x = h
  for k, layer in enumerate(projector.layers):
    x = x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    x = x if k == 2 else x / (1 + np.exp(-x))
  assert [layer.out_features for layer in projector.layers] == [16, 16, 3]
  np.testing.assert_allclose(projector(h), x, atol=1e-5)


def test_without_features_there_is_none():
  assert make_projector(8, 0, rngs=nnx.Rngs(0)) is None
  with pytest.raises(ValueError, match=r'^network\.features = 0 must be the'):
    projected(None, np.zeros((1, 8)))
