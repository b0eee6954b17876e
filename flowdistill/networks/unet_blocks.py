"""The residual blocks of a U-Net of images.

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
from flowdistill.networks.precision import upcast
from flowdistill.networks.resampling import UNIFORM, double, halve
from flowdistill.networks.unet_layers import (
  SMALL,
  BlockConfig,
  GroupNorm,
  add,
  conv3,
)

Array = jax.Array
JOINT = ('adm', 'edm')  # q, k and v in one layer
RESIZED = ('biggan', 'edm')  # with a convolution beside a block that resizes


class ResBlock(nnx.Module):
  """Two convolutions of 3 x 3 with a skip connection, shifted by e.

  In 'adm' e shifts, and scales, the result of the second norm.

  Args:
    n_in: channels of the input.
    n_out: channels of the output.
    config: of all blocks of the network.
    resize: 'double' or 'halve', for both branches, or None.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n_in: int,
    n_out: int,
    config: BlockConfig,
    *,
    resize: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.resize, self.fir, self.rescale = resize, config.fir, config.rescale
    self.scaled = config.kind == 'adm'
    self.norm_in = GroupNorm(n_in, config)
    self.conv_in = conv3(n_in, n_out, dtype=config.dtype, rngs=rngs)
    size = 2 * n_out if self.scaled else n_out
    self.shift = nnx.Linear(
      config.embedding, size, kernel_init=UNIFORM, rngs=rngs
    )
    self.norm_out = GroupNorm(n_out, config)
    self.dropout = nnx.Dropout(config.dropout)
    self.conv_out = conv3(
      n_out, n_out, zero=True, dtype=config.dtype, rngs=rngs
    )
    self.skip = make_skip(n_in, n_out, config, resized=bool(resize), rngs=rngs)

  def __call__(self, h: Array, e: Array, *, key: Array | None = None) -> Array:
    """h [b, h, w, n_in] and e [b, embedding] -> [b, h', w', n_out]."""
    new, skip = self.resized(nnx.silu(self.norm_in(h))), self.resized(h)
    new = nnx.silu(self.shifted(upcast(self.conv_in(new)), self.shift(e)))
    new = self.dropout(new, deterministic=key is None, rngs=key)
    skip = skip if self.skip is None else upcast(self.skip(skip))
    return add(skip, upcast(self.conv_out(new)), rescale=self.rescale)

  def shifted(self, h: Array, shift: Array) -> Array:
    """Normalised and shifted by [b, n], or scaled and shifted by [b, 2 n]."""
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
  n_in: int, n_out: int, config: BlockConfig, *, resized: bool, rngs: nnx.Rngs
) -> nnx.Module | None:
  """The skip connection of a block, None if it is the identity."""
  if n_in == n_out and not (resized and config.kind in RESIZED):
    return None
  if config.kind == 'ddpm':
    return nnx.Linear(
      n_in, n_out, kernel_init=SMALL, dtype=config.dtype, rngs=rngs
    )
  return nnx.Conv(
    n_in, n_out, (1, 1), kernel_init=UNIFORM, dtype=config.dtype, rngs=rngs
  )


class Step(nnx.Module):
  """A block, followed by attention or not."""

  def __init__(
    self,
    n_in: int,
    n_out: int,
    config: BlockConfig,
    *,
    attend: bool,
    rngs: nnx.Rngs,
  ):
    self.block = ResBlock(n_in, n_out, config, rngs=rngs)
    kind = Heads if config.kind in JOINT else Attention
    self.attention = kind(n_out, config, rngs=rngs) if attend else None

  def __call__(
    self, h: Array, e: Array, *said: Array, key: Array | None = None
  ) -> Array:
    """h and e as of a block; `said` is a text and which of it is real."""
    h = self.block(h, e, key=key)
    return h if self.attention is None else self.attention(h, *said)
