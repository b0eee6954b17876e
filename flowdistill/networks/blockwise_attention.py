"""Attention in memory that is linear in the number of tokens.

Queries are taken in blocks, and for each of them keys and values too, with the
softmax of those seen so far: with logits a_j, their maximum m, and Z = Σ_j
exp(a_j − m), the result is (Σ_j exp(a_j − m) v_j) / Z, and m may be any number,
so that a new maximum rescales both sums. m is under stop_gradient, as it has no
effect on the result. Both loops are rematerialised in the backward pass. These
are plain operations, and need no rules of their own for jvp and gradient.

Source: Milakov & Gimelshein, "Online normalizer calculation for softmax"
(2018), https://arxiv.org/abs/1805.02867; Rabe & Staats, "Self-attention Does
Not Need O(n²) Memory" (2021), https://arxiv.org/abs/2112.05682.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
QUERIES, KEYS = 256, 256
"""Tokens in a block, at most."""
Blocks = tuple[Array, Array, Array | None]
"""Keys, values, and which of them are allowed."""
ALIGNED = 8  # which divides the tokens of one of several blocks


class Sums(NamedTuple):
  """Of one block of queries, over the keys so far.

  Attributes:
    top: the largest logit, [..., queries, 1].
    total: Σ exp(logit − top), [..., queries, 1].
    values: Σ exp(logit − top) value, [..., queries, c].
  """

  top: Array
  total: Array
  values: Array


def attend_in_blocks(
  q: Array,
  k: Array,
  v: Array,
  mask: Array | None = None,
  *,
  queries: int = QUERIES,
  keys: int = KEYS,
) -> Array:
  """As `attention.plain`, in blocks of at most so many queries and keys."""
  n, size = q.shape[-2], block_size(q.shape[-2], queries)
  columns = block_size(k.shape[-2], keys)
  blocks = split(k, columns), split(v, columns)
  q = padded(q, size)
  allowed = split_mask(mask, k.shape[-2], size, columns)

  # Queries are sliced within, so that the slices are not stored.
  @functools.partial(jax.checkpoint, prevent_cse=False)
  def row(i: Array) -> Array:
    def part(x: Array) -> Array:
      return jax.lax.dynamic_slice_in_dim(x, i * size, size, -2)

    if allowed is None or allowed.shape[-2] == 1:
      return _attend_row(part(q), (*blocks, allowed))
    return _attend_row(part(q), (*blocks, part(allowed)))

  out = jax.lax.map(row, jnp.arange(q.shape[-2] // size))
  out = jnp.moveaxis(out, 0, -3)
  return out.reshape(*out.shape[:-3], -1, out.shape[-1])[..., :n, :]


def _attend_row(q: Array, blocks: Blocks) -> Array:
  """Attention of one block of queries to all blocks of keys and values."""
  k, v, _ = blocks
  wide = jnp.promote_types(q.dtype, jnp.float32)
  lead = jnp.broadcast_shapes(q.shape[:-2], k.shape[1:-2])
  lead = (*lead, q.shape[-2])

  def add(sums: Sums, block: Blocks) -> tuple[Sums, None]:
    k, v, allowed = block
    logits = jnp.matmul(q, k.swapaxes(-2, -1), preferred_element_type=wide)
    logits = logits / math.sqrt(q.shape[-1])
    if allowed is not None:
      logits = jnp.where(allowed, logits, -jnp.inf)
    new = jax.lax.stop_gradient(logits).max(-1, keepdims=True)
    top = jnp.maximum(sums.top, new)
    weights, before = jnp.exp(logits - top), jnp.exp(sums.top - top)
    values = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=wide)
    return Sums(
      top,
      before * sums.total + weights.sum(-1, keepdims=True),
      before * sums.values + values,
    ), None

  start = Sums(
    # Not −∞: without an allowed key so far, exp(top − top) would be NaN.
    jnp.full((*lead, 1), jnp.finfo(wide).min, wide),
    jnp.zeros((*lead, 1), wide),
    jnp.zeros((*lead, v.shape[-1]), wide),
  )
  add = jax.checkpoint(add, prevent_cse=False)
  sums, _ = jax.lax.scan(add, start, blocks)
  return (sums.values / sums.total).astype(v.dtype)


def block_size(tokens: int, most: int) -> int:
  """Tokens of a block, of which few have to be added to fill the last one."""
  blocks = -(-tokens // most)
  even = -(-tokens // blocks)
  return even if blocks == 1 else min(most, -(-even // ALIGNED) * ALIGNED)


def padded(x: Array, size: int, value: Any = 0) -> Array:
  """[..., tokens, c] with tokens added at the end, to a multiple of size."""
  more = -x.shape[-2] % size
  lead = [(0, 0)] * (x.ndim - 2)
  if not more:
    return x
  return jnp.pad(x, [*lead, (0, more), (0, 0)], constant_values=value)


def split(x: Array, size: int) -> Array:
  """[..., tokens, c] -> [blocks, ..., size, c], the last one with zeros."""
  x = padded(x, size)
  return jnp.moveaxis(x.reshape(*x.shape[:-2], -1, size, x.shape[-1]), -3, 0)


def split_mask(
  mask: Array | None, keys: int, rows: int, columns: int
) -> Array | None:
  """A mask in blocks of keys, by which no query attends to a key that is added.

  Args:
    mask: bool, broadcast to [..., queries, keys]; None allows all.
    keys: their number.
    rows: queries in a block.
    columns: keys in a block.

  Returns:
    [blocks, ..., 1 or queries with those that are added, columns], None if all
    is allowed.
  """
  if mask is None:
    if keys % columns == 0:
      return None
    mask = jnp.ones((1, keys), bool)
  mask = jnp.atleast_2d(mask)
  mask = jnp.broadcast_to(mask, (*mask.shape[:-1], keys))
  if mask.shape[-2] > 1:
    # A query that is added attends to all, as a softmax of nothing is NaN.
    mask = padded(mask, rows, True)
  return split(mask.swapaxes(-1, -2), columns).swapaxes(-1, -2)
