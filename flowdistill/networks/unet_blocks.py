"""What a level of a U-Net of images is made of.

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H;
blocks after Ho et al., "Denoising Diffusion Probabilistic Models" (2020),
https://arxiv.org/abs/2006.11239, and Brock et al., "Large Scale GAN Training"
(2018), https://arxiv.org/abs/1809.11096.
"""

import jax
from flax import nnx

from flowdistill.networks.attention import Attention
from flowdistill.networks.precision import wide
from flowdistill.networks.resampling import UNIFORM, double, halve
from flowdistill.networks.unet_layers import (
  SMALL,
  Blocks,
  GroupNorm,
  add,
  conv3,
)

Array = jax.Array


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
    self.norm_in = GroupNorm(n_in, of)
    self.conv_in = conv3(n_in, n_out, dtype=of.dtype, rngs=rngs)
    self.shift = nnx.Linear(of.embedding, n_out, kernel_init=UNIFORM, rngs=rngs)
    self.norm_out = GroupNorm(n_out, of)
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
