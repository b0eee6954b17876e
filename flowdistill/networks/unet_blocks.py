"""What a level of a U-Net of images is made of.

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H;
blocks after Ho et al., "Denoising Diffusion Probabilistic Models" (2020),
https://arxiv.org/abs/2006.11239, Brock et al., "Large Scale GAN Training"
(2018), https://arxiv.org/abs/1809.11096, and Dhariwal & Nichol, "Diffusion
Models Beat GANs on Image Synthesis" (2021), https://arxiv.org/abs/2105.05233.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.attention import Attention, Heads
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

  In 'adm' e comes after the second norm, which it scales as well.

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
    self.scaled = of.kind == 'adm'
    self.norm_in = GroupNorm(n_in, of)
    self.conv_in = conv3(n_in, n_out, dtype=of.dtype, rngs=rngs)
    size = 2 * n_out if self.scaled else n_out
    self.shift = nnx.Linear(of.embedding, size, kernel_init=UNIFORM, rngs=rngs)
    self.norm_out = GroupNorm(n_out, of)
    self.dropout = nnx.Dropout(of.dropout)
    self.conv_out = conv3(n_out, n_out, zero=True, dtype=of.dtype, rngs=rngs)
    self.skip = make_skip(n_in, n_out, of, resized=bool(resize), rngs=rngs)

  def __call__(self, h: Array, e: Array, *, key: Array | None = None) -> Array:
    """h [b, h, w, n_in] and e [b, embedding] -> [b, h', w', n_out]."""
    new, skip = self.resized(nnx.silu(self.norm_in(h))), self.resized(h)
    new = nnx.silu(self.shifted(wide(self.conv_in(new)), self.shift(e)))
    new = self.dropout(new, deterministic=key is None, rngs=key)
    skip = skip if self.skip is None else wide(self.skip(skip))
    return add(skip, wide(self.conv_out(new)), rescale=self.rescale)

  def shifted(self, h: Array, shift: Array) -> Array:
    """Normalised and shifted by [b, n], or [b, 2 n] with a scale before it."""
    shift = shift[:, None, None]
    if not self.scaled:
      return self.norm_out(h + shift)
    scale, shift = jnp.split(shift, 2, axis=-1)
    return self.norm_out(h) * (1 + scale) + shift

  def resized(self, h: Array) -> Array:
    if self.resize is None:
      return h
    resize = {'double': double, 'halve': halve}[self.resize]
    return resize(h, fir=self.fir)


def make_skip(
  n_in: int, n_out: int, of: Blocks, *, resized: bool, rngs: nnx.Rngs
) -> nnx.Module | None:
  """What the block's identity is, where it cannot be one."""
  if n_in == n_out and not (resized and of.kind == 'biggan'):
    return None
  if of.kind == 'ddpm':
    return nnx.Linear(n_in, n_out, kernel_init=SMALL, dtype=of.dtype, rngs=rngs)
  return nnx.Conv(
    n_in, n_out, (1, 1), kernel_init=UNIFORM, dtype=of.dtype, rngs=rngs
  )


class Step(nnx.Module):
  """A block, and attention after it or none."""

  def __init__(
    self, n_in: int, n_out: int, of: Blocks, *, attend: bool, rngs: nnx.Rngs
  ):
    self.block = ResBlock(n_in, n_out, of, rngs=rngs)
    kind = Heads if of.kind == 'adm' else Attention
    self.attention = kind(n_out, of, rngs=rngs) if attend else None

  def __call__(self, h: Array, e: Array, *, key: Array | None = None) -> Array:
    h = self.block(h, e, key=key)
    return h if self.attention is None else self.attention(h)
