"""Attention among the tokens or pixels of an example, softmax(q kᵀ / √c) v.

It has three forms with equal results: `plain`, which stores the logits of all
pairs of tokens; `blockwise`, in memory that is linear in their number; and
`fused`, one kernel of a GPU, which refuses jvp.

Source: Vaswani et al., "Attention Is All You Need" (2017),
https://arxiv.org/abs/1706.03762, section 3.2.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.blockwise_attention import attend_in_blocks
from flowdistill.networks.fused_attention import attend_fused
from flowdistill.networks.grouped_heads import Attend, grouped
from flowdistill.networks.precision import upcast
from flowdistill.networks.resampling import UNIFORM
from flowdistill.networks.unet_layers import (
  SMALL,
  ZEROS,
  BlockConfig,
  GroupNorm,
  add,
)

Array = jax.Array
LESS = nnx.initializers.variance_scaling(0.3, 'fan_avg', 'uniform')
"""Of what is added where a text is read."""


def plain(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
  """`attend` with the logits of all pairs."""
  # Plain products: every fused attention refuses jvp, and jax.nn's own casts
  # to float32, too coarse to check a derivative in float64.
  logits = jnp.matmul(
    q,
    k.swapaxes(-2, -1),
    preferred_element_type=jnp.promote_types(q.dtype, jnp.float32),
  )
  logits = logits / math.sqrt(q.shape[-1])
  if mask is not None:
    logits = jnp.where(mask, logits, -jnp.inf)
  return nnx.softmax(logits).astype(v.dtype) @ v


PLAIN, BLOCKWISE, FUSED = 'plain', 'blockwise', 'fused'
FORMS: dict[str, Attend] = {
  PLAIN: grouped(plain),
  BLOCKWISE: grouped(attend_in_blocks),
  FUSED: attend_fused,
}


def attend(
  q: Array,
  k: Array,
  v: Array,
  mask: Array | None = None,
  *,
  form: str = PLAIN,
) -> Array:
  """Scaled dot-product attention, with a softmax in float32 or float64.

  Args:
    q: [..., queries, c].
    k: [..., keys, c]; with an axis of heads, [b, heads, keys, c], it may have
      fewer, which divide those of q.
    v: [..., keys, c], of the heads of k.
    mask: bool, broadcast to [..., queries, keys]: true where a query may attend
      to a key, and it must to at least one. None allows all.
    form: a name in `FORMS`.

  Returns:
    [..., queries, c].

  Raises:
    ValueError: if the heads of k do not divide those of q.
  """
  return FORMS[form](q, k, v, mask)


class Attention(nnx.Module):
  """Single-head attention among the pixels of an image, with a residual."""

  def __init__(self, channels: int, config: BlockConfig, *, rngs: nnx.Rngs):
    def linear(init: nnx.Initializer) -> nnx.Linear:
      return nnx.Linear(
        channels, channels, kernel_init=init, dtype=config.dtype, rngs=rngs
      )

    self.rescale, self.form = config.rescale, config.attention_form
    self.norm = GroupNorm(channels, config)
    self.q, self.k, self.v = linear(SMALL), linear(SMALL), linear(SMALL)
    self.out = linear(ZEROS)

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same."""
    b, *_, c = h.shape
    rows = self.norm(h).reshape(-1, c)
    q, k, v = (f(rows).reshape(b, -1, c) for f in (self.q, self.k, self.v))
    new = upcast(self.out(attend(q, k, v, form=self.form).reshape(-1, c)))
    return add(h, new.reshape(h.shape), rescale=self.rescale)


class Heads(nnx.Module):
  """Multi-head attention among the pixels of an image, with a residual.

  A head has `config.head` channels, or more where that does not divide them. A
  text has keys and values of its own, beside those of the pixels.

  Source of the text: Nichol et al., "GLIDE" (2021),
  https://arxiv.org/abs/2112.10741, section 4.1.

  Raises:
    ValueError: if the heads do not divide the channels.
  """

  def __init__(self, channels: int, config: BlockConfig, *, rngs: nnx.Rngs):
    self.heads = max(1, channels // config.head)
    if channels % self.heads:
      raise ValueError(
        f'head_channels = {config.head} makes {self.heads} heads of a layer of '
        f'{channels} channels, which they must divide'
      )
    self.rescale, self.form = config.rescale, config.attention_form
    self.norm = GroupNorm(channels, config)
    self.qkv = nnx.Linear(
      channels, 3 * channels, kernel_init=UNIFORM, dtype=config.dtype, rngs=rngs
    )
    # From zero, what a text says is learnt later (docs/t2i_shapes.md).
    init = LESS if config.text else ZEROS
    self.out = nnx.Linear(
      channels, channels, kernel_init=init, dtype=config.dtype, rngs=rngs
    )
    self.text = make_context(channels, config, rngs=rngs)

  def __call__(
    self, h: Array, text: Array | None = None, real: Array | None = None
  ) -> Array:
    """[b, h, w, c] -> the same.

    Tokens `text` [b, n, d] are attended to where they are `real`, bool [b, n].
    """
    b, *_, c = h.shape
    qkv = self.qkv(self.norm(h).reshape(-1, c))
    # q, k and v of a channel are adjacent, as in the weights of ADM.
    qkv = qkv.reshape(b, -1, self.heads, c // self.heads, 3)
    q, k, v = jnp.moveaxis(qkv, (4, 2), (0, 2))
    mask = None
    if self.text is not None and text is not None and real is not None:
      kv = self.text(text).reshape(b, -1, self.heads, c // self.heads, 2)
      pairs = zip((k, v), jnp.moveaxis(kv, (4, 2), (0, 2)), strict=True)
      k, v = (jnp.concatenate(pair, 2) for pair in pairs)
      pixels = jnp.ones((b, q.shape[2]), bool)
      mask = jnp.concatenate([pixels, real], 1)[:, None, None]
    new = jnp.moveaxis(attend(q, k, v, mask, form=self.form), 1, 2)
    new = upcast(self.out(new.reshape(-1, c))).reshape(h.shape)
    return add(h, new, rescale=self.rescale)


def make_context(
  channels: int, config: BlockConfig, *, rngs: nnx.Rngs
) -> nnx.Linear | None:
  """Keys and values of a text, None without."""
  if not config.text:
    return None
  size, init = 2 * channels, UNIFORM
  return nnx.Linear(
    config.text, size, kernel_init=init, dtype=config.dtype, rngs=rngs
  )
