"""What a level of a U-Net of images is made of.

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H;
blocks after Ho et al., "Denoising Diffusion Probabilistic Models" (2020),
https://arxiv.org/abs/2006.11239, and Brock et al., "Large Scale GAN Training"
(2018), https://arxiv.org/abs/1809.11096.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.precision import wide
from flowdistill.networks.resampling import UNIFORM, double, halve

Array = jax.Array
SMALL = nnx.initializers.variance_scaling(0.1, 'fan_avg', 'uniform')
ZEROS = nnx.initializers.zeros


@dataclasses.dataclass(frozen=True)
class Blocks:
  """What the blocks of one network share.

  Attributes:
    embedding: width of the embedding of times and conditions.
    kind: 'biggan', whose blocks change the side themselves, or 'ddpm'.
    dropout: rate of dropout before the second convolution.
    rescale: whether a sum of two branches is divided by √2.
    fir: whether resampling filters.
    dtype: of the large products.
  """

  embedding: int
  kind: str
  dropout: float
  rescale: bool
  fir: bool
  dtype: DTypeLike | None


class ResBlock(nnx.Module):
  """Two convolutions of 3 x 3 beside the identity, shifted by e.

  Args:
    n_in: channels of the input.
    n_out: channels of the answer.
    of: what it shares with others.
    resize: `double` or `halve` both branches, or neither.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n_in: int,
    n_out: int,
    of: Blocks,
    *,
    resize: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.resize, self.fir, self.rescale = resize, of.fir, of.rescale
    self.norm_in = GroupNorm(n_in)
    self.conv_in = conv3(n_in, n_out, dtype=of.dtype, rngs=rngs)
    self.shift = nnx.Linear(of.embedding, n_out, kernel_init=UNIFORM, rngs=rngs)
    self.norm_out = GroupNorm(n_out)
    self.dropout = nnx.Dropout(of.dropout)
    self.conv_out = conv3(n_out, n_out, zero=True, dtype=of.dtype, rngs=rngs)
    self.skip = make_skip(n_in, n_out, of, resized=bool(resize), rngs=rngs)

  def __call__(self, h: Array, e: Array, *, key: Array | None = None) -> Array:
    """h [b, h, w, n_in] and e [b, embedding] -> [b, h', w', n_out]."""
    new, skip = self.resized(nnx.silu(self.norm_in(h))), self.resized(h)
    new = wide(self.conv_in(new)) + self.shift(e)[:, None, None]
    new = nnx.silu(self.norm_out(new))
    new = self.dropout(new, deterministic=key is None, rngs=key)
    skip = skip if self.skip is None else wide(self.skip(skip))
    return add(skip, wide(self.conv_out(new)), rescale=self.rescale)

  def resized(self, h: Array) -> Array:
    if self.resize is None:
      return h
    resize = {'double': double, 'halve': halve}[self.resize]
    return resize(h, fir=self.fir)


def make_skip(
  n_in: int, n_out: int, of: Blocks, *, resized: bool, rngs: nnx.Rngs
) -> nnx.Module | None:
  """What the block's identity is, where it cannot be one."""
  if of.kind == 'biggan' and (resized or n_in != n_out):
    return nnx.Conv(
      n_in, n_out, (1, 1), kernel_init=UNIFORM, dtype=of.dtype, rngs=rngs
    )
  if n_in != n_out:
    return nnx.Linear(n_in, n_out, kernel_init=SMALL, dtype=of.dtype, rngs=rngs)
  return None


class Attention(nnx.Module):
  """Attention with one head among the places of an image, added to it."""

  def __init__(self, channels: int, of: Blocks, *, rngs: nnx.Rngs):
    def linear(init: nnx.Initializer) -> nnx.Linear:
      return nnx.Linear(
        channels, channels, kernel_init=init, dtype=of.dtype, rngs=rngs
      )

    self.rescale = of.rescale
    self.norm = GroupNorm(channels)
    self.q, self.k, self.v = linear(SMALL), linear(SMALL), linear(SMALL)
    self.out = linear(ZEROS)

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same."""
    b, *_, c = h.shape
    rows = self.norm(h).reshape(-1, c)
    q, k, v = (f(rows).reshape(b, -1, c) for f in (self.q, self.k, self.v))
    # Plain products: every fused attention refuses jvp.
    logits = jnp.matmul(
      q,
      k.swapaxes(1, 2),
      preferred_element_type=jnp.promote_types(q.dtype, jnp.float32),
    )
    weights = nnx.softmax(logits / math.sqrt(c)).astype(v.dtype)
    new = wide(self.out((weights @ v).reshape(-1, c)))
    return add(h, new.reshape(h.shape), rescale=self.rescale)


class Step(nnx.Module):
  """A block, and attention after it or none."""

  def __init__(
    self, n_in: int, n_out: int, of: Blocks, *, attend: bool, rngs: nnx.Rngs
  ):
    self.block = ResBlock(n_in, n_out, of, rngs=rngs)
    self.attention = Attention(n_out, of, rngs=rngs) if attend else None

  def __call__(self, h: Array, e: Array, *, key: Array | None = None) -> Array:
    h = self.block(h, e, key=key)
    return h if self.attention is None else self.attention(h)


class GroupNorm(nnx.Module):
  """Mean 0 and variance 1 in each group of channels, then scale and bias.

  There are 32 groups, or fewer of four channels; statistics are float32.

  Raises:
    ValueError: if the groups do not divide the channels.
  """

  def __init__(self, channels: int, *, eps: float = 1e-6):
    self.groups, self.eps = min(channels // 4, 32), eps
    if self.groups < 1 or channels % self.groups:
      raise ValueError(
        f'nf and ch_mult make a layer of {channels} channels, and its '
        f'{self.groups} groups must divide them: take a multiple of 32 for nf, '
        'or below it of 4'
      )
    self.scale = nnx.Param(jnp.ones(channels))
    self.bias = nnx.Param(jnp.zeros(channels))

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same, float32 at least."""
    b, *_, c = h.shape
    groups = wide(h).reshape(b, -1, self.groups, c // self.groups)
    groups = groups - groups.mean((1, 3), keepdims=True)
    variance = jnp.square(groups).mean((1, 3), keepdims=True)
    groups = groups * jax.lax.rsqrt(variance + self.eps)
    return groups.reshape(h.shape) * self.scale[...] + self.bias[...]


def conv3(
  n_in: int,
  n_out: int,
  *,
  zero: bool = False,
  dtype: DTypeLike | None = None,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  """A convolution of 3 x 3 that keeps the side, and may start at zero."""
  init = ZEROS if zero else UNIFORM
  return nnx.Conv(n_in, n_out, (3, 3), kernel_init=init, dtype=dtype, rngs=rngs)


def add(h: Array, new: Array, *, rescale: bool) -> Array:
  """h + new, over √2 if the sum is to keep the variance."""
  return (h + new) * (math.sqrt(0.5) if rescale else 1)
