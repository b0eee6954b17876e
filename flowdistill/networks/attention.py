"""Attention: each place of an image takes from the places that are like it.

  softmax(q kᵀ / √c) v

Source: Vaswani et al., "Attention Is All You Need" (2017),
https://arxiv.org/abs/1706.03762, section 3.2.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.precision import wide
from flowdistill.networks.resampling import UNIFORM
from flowdistill.networks.unet_layers import (
  SMALL,
  ZEROS,
  Blocks,
  GroupNorm,
  add,
)

Array = jax.Array


def attend(q: Array, k: Array, v: Array) -> Array:
  """q, k, v [..., places, c] -> the same, with a float32 softmax at least."""
  # Plain products: every fused attention refuses jvp, and jax.nn's own casts
  # to float32, so that a float64 check of a derivative is noise.
  logits = jnp.matmul(
    q,
    k.swapaxes(-2, -1),
    preferred_element_type=jnp.promote_types(q.dtype, jnp.float32),
  )
  weights = nnx.softmax(logits / math.sqrt(q.shape[-1])).astype(v.dtype)
  return weights @ v


class Attention(nnx.Module):
  """Attention with one head among the places of an image, added to it."""

  def __init__(self, channels: int, of: Blocks, *, rngs: nnx.Rngs):
    def linear(init: nnx.Initializer) -> nnx.Linear:
      return nnx.Linear(
        channels, channels, kernel_init=init, dtype=of.dtype, rngs=rngs
      )

    self.rescale = of.rescale
    self.norm = GroupNorm(channels, of)
    self.q, self.k, self.v = linear(SMALL), linear(SMALL), linear(SMALL)
    self.out = linear(ZEROS)

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same."""
    b, *_, c = h.shape
    rows = self.norm(h).reshape(-1, c)
    q, k, v = (f(rows).reshape(b, -1, c) for f in (self.q, self.k, self.v))
    new = wide(self.out(attend(q, k, v).reshape(-1, c)))
    return add(h, new.reshape(h.shape), rescale=self.rescale)


class Heads(nnx.Module):
  """Attention with several heads among the places of an image, added to it.

  A head has `of.head` channels, or some more where they do not divide them.

  Raises:
    ValueError: if the heads do not divide the channels.
  """

  def __init__(self, channels: int, of: Blocks, *, rngs: nnx.Rngs):
    self.heads = max(1, channels // of.head)
    if channels % self.heads:
      raise ValueError(
        f'head_channels = {of.head} makes {self.heads} heads of a layer of '
        f'{channels} channels, which they must divide'
      )
    self.norm = GroupNorm(channels, of)
    self.qkv = nnx.Linear(
      channels, 3 * channels, kernel_init=UNIFORM, dtype=of.dtype, rngs=rngs
    )
    self.out = nnx.Linear(
      channels, channels, kernel_init=ZEROS, dtype=of.dtype, rngs=rngs
    )

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same."""
    b, *_, c = h.shape
    qkv = self.qkv(self.norm(h).reshape(-1, c))
    # q, k and v of a channel are neighbours, as in the weights of ADM.
    qkv = qkv.reshape(b, -1, self.heads, c // self.heads, 3)
    q, k, v = jnp.moveaxis(qkv, (4, 2), (0, 2))
    new = jnp.moveaxis(attend(q, k, v), 1, 2)
    return h + wide(self.out(new.reshape(-1, c))).reshape(h.shape)
