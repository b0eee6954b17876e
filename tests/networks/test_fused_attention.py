"""The call of the library that a GPU takes, with its kernel for all devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.networks.attention import attend
from flowdistill.networks.fused_attention import attend_by_library

RNG = np.random.default_rng(0)
KEYS = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0]], bool)


@pytest.mark.parametrize(
  ('queries', 'keys', 'mask'),
  [
    ((2, 3, 4, 8), (2, 3, 5, 8), None),
    ((2, 3, 4, 8), (2, 3, 5, 8), KEYS[:, None, None]),
    ((2, 4, 4, 8), (2, 2, 5, 8), KEYS[:, None, None]),
    ((2, 4, 8), (2, 5, 8), KEYS[:, None]),
    ((2, 4, 8), (2, 5, 8), KEYS[0]),
  ],
)
def test_shapes_and_masks_are_handed_over(queries, keys, mask):
  q, k, v = (
    jnp.asarray(RNG.normal(size=s), jnp.float32) for s in (queries, keys, keys)
  )
  found = attend_by_library(q, k, v, mask, implementation='xla')
  np.testing.assert_allclose(found, attend(q, k, v, mask), atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != 'gpu', reason='needs a GPU')
def test_the_kernel_of_a_gpu_is_attention():
  q, k, v = jnp.asarray(RNG.normal(size=(3, 2, 4, 96, 64)), jnp.bfloat16)
  mask = RNG.uniform(size=(2, 1, 1, 96)) < 0.6
  mask[..., 0] = True
  found = attend(q, k, v, mask, form='fused').astype(jnp.float32)
  wanted = attend(q, k, v, mask).astype(jnp.float32)
  np.testing.assert_allclose(found, wanted, atol=2e-2)
