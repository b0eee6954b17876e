"""Attention in blocks is attention, and its memory is linear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.networks.attention import attend
from flowdistill.networks.blockwise_attention import (
  ALIGNED,
  attend_in_blocks,
  block_size,
)
from flowdistill.networks.grouped_heads import grouped

RNG = np.random.default_rng(0)
KEYS = RNG.uniform(size=(2, 1, 1, 45)) < 0.6
PAIRS = RNG.uniform(size=(2, 1, 37, 45)) < 0.6
FAR = np.arange(45) >= 40  # all in the last block
KEYS[..., 0] = PAIRS[..., 0] = True
SHAPES = (2, 4, 37, 8), (2, 4, 45, 8)
EACH = np.concatenate([PAIRS, KEYS | PAIRS] * 2, 1)  # of each head
CASES = {
  'all': (*SHAPES, None),
  'keys': (*SHAPES, KEYS),
  'pairs': (*SHAPES, PAIRS),
  'one row for all': (*SHAPES, FAR),
  'masked groups': ((2, 4, 37, 8), (2, 2, 45, 8), EACH),
  'without heads': ((2, 37, 8), (2, 45, 8), PAIRS[:, 0]),
  'whole blocks': ((2, 4, 32, 8), (2, 4, 48, 8), None),
  'one query': ((2, 4, 1, 8), (2, 4, 45, 8), KEYS),
}


@pytest.fixture
def optimised():
  """As programs are outside of tests, whose memory is another one."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


def by_hand(q, k, v, mask):
  """In float64."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  if q.ndim == 4:
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], 1) for x in (k, v))
  logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights *= True if mask is None else mask
  return weights / weights.sum(-1, keepdims=True) @ v


def small_blocks(q, k, v, mask=None):
  """Of at most 16 queries and 16 keys."""

  def in_blocks(*arrays):
    return attend_in_blocks(*arrays, queries=16, keys=16)

  return grouped(in_blocks)(q, k, v, mask)


def drawn(queries, keys):
  shapes = queries, keys, keys
  return [jnp.asarray(RNG.normal(size=s), jnp.float32) for s in shapes]


def loss_of(form, mask):
  """The loss, through a jvp of the attention, as a student's."""

  def loss(arrays, directions, out):
    value, slope = jax.jvp(
      lambda *x: form(*x, mask), tuple(arrays), tuple(directions)
    )
    return jnp.sum(out * (value + slope))

  return loss


@pytest.mark.parametrize('case', CASES)
def test_it_is_plain_attention(case):
  queries, keys, mask = CASES[case]
  arrays = drawn(queries, keys)
  wanted = by_hand(*arrays, mask)
  found = jax.jit(small_blocks)(*arrays, mask)
  np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=5e-7)


@pytest.mark.slow
@pytest.mark.parametrize('case', ['pairs', 'masked groups', 'whole blocks'])
def test_its_gradient_through_a_jvp_is_that_of_plain_attention(case):
  queries, keys, mask = CASES[case]
  arrays, directions = drawn(queries, keys), drawn(queries, keys)
  out = jnp.asarray(RNG.normal(size=queries), jnp.float32) / np.prod(queries)
  wanted, found = (
    jax.jit(jax.grad(loss_of(form, mask), argnums=(0, 1)))(
      arrays, directions, out
    )
    for form in (attend, small_blocks)
  )
  assert max(float(jnp.abs(x).max()) for x in wanted[0]) > 1e-5
  leaves = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
  for a, b in leaves:
    np.testing.assert_allclose(a, b, atol=2e-7)


@pytest.mark.usefixtures('x64')
def test_in_float64_they_are_equal_to_its_precision():
  arrays = [x.astype(jnp.float64) for x in drawn(*SHAPES)]
  found = jax.jit(small_blocks)(*arrays, PAIRS)
  wanted = by_hand(*arrays, PAIRS)
  np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_logits_of_any_size_have_a_finite_softmax():
  q, k, v = drawn(*SHAPES)
  found = jax.jit(small_blocks)(1e4 * q, 1e4 * k, v)
  wanted = by_hand(1e4 * q, 1e4 * k, v, None)
  np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_it_takes_and_returns_bfloat16():
  q, k, v = (x.astype(jnp.bfloat16) for x in drawn(*SHAPES))
  found = jax.jit(small_blocks)(q, k, v)
  assert found.dtype == jnp.bfloat16
  wanted = by_hand(q, k, v, None)
  np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=1e-2)


@pytest.mark.parametrize('queries', [256, 3])
@pytest.mark.parametrize('tokens', [1, 5, 256, 257, 4096, 4429, 4608])
def test_blocks_are_even(tokens, queries):
  """Few tokens are added, and more blocks than needed are never taken."""
  size = block_size(tokens, queries)
  blocks = -(-tokens // size)
  assert 1 <= size <= queries
  assert blocks == -(-tokens // queries)
  assert blocks * size - tokens < blocks * ALIGNED


@pytest.mark.slow
@pytest.mark.usefixtures('optimised')
def test_at_16384_tokens_its_gradient_through_a_jvp_takes_64_megabytes():
  """The compiler's own figure, of 2 heads of 64 channels in float32."""
  arrays = [jax.ShapeDtypeStruct((1, 2, 16384, 64), jnp.float32)] * 3

  def blockwise(q, k, v, mask=None):
    return attend(q, k, v, mask, form='blockwise')

  gradient = jax.grad(loss_of(blockwise, None))
  compiled = jax.jit(gradient).lower(arrays, arrays, arrays[0]).compile()
  assert compiled.memory_analysis().temp_size_in_bytes <= 64e6
