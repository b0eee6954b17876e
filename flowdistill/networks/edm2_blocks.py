"""The blocks of EDM2, on the way down ('enc') and up ('dec').

Source: Karras et al., "Analyzing and Improving the Training Dynamics of
Diffusion Models" (2023), https://arxiv.org/abs/2312.02696, figure 21.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import attend
from flowdistill.networks.edm2_layers import (
  MPConv,
  MPLinear,
  mp_silu,
  mp_sum,
  unit,
)
from flowdistill.networks.resampling import double, halve

Array = jax.Array
BALANCE = 0.3  # share of a residual branch, and of attention
LARGEST = 256.0  # activation


@dataclasses.dataclass(frozen=True)
class BlockConfig:
  """The configuration that the blocks of one network share.

  Attributes:
    embedding: width of the embedding of times and conditions.
    dropout: dropout rate before the second convolution.
    head: channels of an attention head.
    fir: whether down- and upsampling filter.
    dtype: of the large products.
    attention_form: see `NetworkOptions`.
  """

  embedding: int
  dropout: float
  head: int
  fir: bool
  dtype: DTypeLike | None
  attention_form: str


class Block(nnx.Module):
  """Two convolutions, scaled by e in between, then attention or not.

  Args:
    n_in: channels of the input.
    n_out: channels of the output.
    config: of all blocks of the network.
    down: whether it is on the way down.
    resize: 'double' or 'halve', before all else, or None.
    attention: whether attention follows.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if the heads do not divide the channels.
  """

  def __init__(
    self,
    n_in: int,
    n_out: int,
    config: BlockConfig,
    *,
    down: bool,
    resize: str | None = None,
    attention: bool = False,
    rngs: nnx.Rngs,
  ):
    dtype = config.dtype
    self.down, self.resize, self.fir = down, resize, config.fir
    first = n_out if down else n_in
    self.conv_in = MPConv(first, n_out, dtype=dtype, rngs=rngs)
    self.scale = MPLinear(config.embedding, n_out, rngs=rngs)
    self.gain = nnx.Param(jnp.zeros(()))
    self.dropout = nnx.Dropout(config.dropout)
    self.conv_out = MPConv(n_out, n_out, dtype=dtype, rngs=rngs)
    self.skip = (
      None if n_in == n_out else MPLinear(n_in, n_out, dtype=dtype, rngs=rngs)
    )
    self.attention = Cosine(n_out, config, rngs=rngs) if attention else None

  def __call__(self, h: Array, e: Array, *, key: Array | None = None) -> Array:
    """h [b, h, w, n_in] and e [b, embedding] -> [b, h', w', n_out]."""
    h = self.resized(h)
    if self.down:
      h = unit(self.skipped(h), -1)
    new = self.conv_in(mp_silu(h))
    scale = self.scale(e, self.gain[...]) + 1
    new = mp_silu(new * scale[:, None, None])
    new = self.dropout(new, deterministic=key is None, rngs=key)
    new = self.conv_out(new)
    h = mp_sum(h if self.down else self.skipped(h), new, BALANCE)
    h = h if self.attention is None else self.attention(h)
    return jnp.clip(h, -LARGEST, LARGEST)

  def skipped(self, h: Array) -> Array:
    return h if self.skip is None else self.skip(h)

  def resized(self, h: Array) -> Array:
    if self.resize is None:
      return h
    resize = {'double': double, 'halve': halve}[self.resize]
    return resize(h, fir=self.fir)


class Cosine(nnx.Module):
  """Attention among pixels, with queries, keys and values of magnitude 1.

  Layers with fewer channels than `config.head` have one head.

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
    dtype = config.dtype
    self.qkv = MPLinear(channels, 3 * channels, dtype=dtype, rngs=rngs)
    self.out = MPLinear(channels, channels, dtype=dtype, rngs=rngs)
    self.dtype, self.form = dtype, config.attention_form

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same."""
    b, *_, c = h.shape
    qkv = self.qkv(h.reshape(-1, c))
    # q, k and v of a channel are adjacent, as in the published weights.
    qkv = unit(qkv.reshape(b, -1, self.heads, c // self.heads, 3), 3)
    q, k, v = jnp.moveaxis(qkv.astype(self.dtype or qkv.dtype), (4, 2), (0, 2))
    new = jnp.moveaxis(attend(q, k, v, form=self.form), 1, 2)
    return mp_sum(h, self.out(new.reshape(-1, c)).reshape(h.shape), BALANCE)
