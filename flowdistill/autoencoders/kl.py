"""The KL-regularised convolutional autoencoder of latent diffusion.

  z ~ N(mean(x), std(x)²),  x ≈ decode(z)

Stable Diffusion 1, 2 and XL have it with 4 channels, Stable Diffusion 3 and
FLUX with 16 and without the two 1 x 1 convolutions around the latents.
Attributes have the names of diffusers' `AutoencoderKL`, and so do its options.

Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion
Models" (2021), https://arxiv.org/abs/2112.10752, appendix G;
https://github.com/huggingface/diffusers, 0.42, `AutoencoderKL`.
"""

import dataclasses
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array
EPS = 1e-6
LOG_VARIANCE = -30.0, 20.0  # its range, beyond which it is clipped


@dataclasses.dataclass(frozen=True, kw_only=True)
class KLConfig:
  """The sizes of an autoencoder, by diffusers' names.

  Attributes:
    latent_channels: of the latents.
    block_out_channels: channels of the levels; between two the side is halved.
    layers_per_block: residual blocks of a level; the decoder has one more.
    norm_num_groups: of each group norm; they divide the channels.
    mid_block_add_attention: whether all places attend to each other between
      the two middle blocks.
    use_quant_conv, use_post_quant_conv: whether there is a 1 x 1 convolution
      after the encoder, and one before the decoder.

  Raises:
    ValueError: for a number below 1, or groups that do not divide.
  """

  flat: ClassVar[bool] = True  # in a config its fields are options of `kl`
  latent_channels: int = 4
  block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
  layers_per_block: int = 2
  norm_num_groups: int = 32
  mid_block_add_attention: bool = True
  use_quant_conv: bool = True
  use_post_quant_conv: bool = True

  def __post_init__(self) -> None:
    for name in ('latent_channels', 'layers_per_block', 'norm_num_groups'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} = {getattr(self, name)} must be at least 1')
    widths, groups = self.block_out_channels, self.norm_num_groups
    if not widths or any(n < 1 or n % groups for n in widths):
      raise ValueError(
        f'block_out_channels = {widths} must be one or several multiples of '
        f'norm_num_groups = {groups}'
      )

  @property
  def factor(self) -> int:
    """The side of an image over that of its latents."""
    return 2 ** (len(self.block_out_channels) - 1)

  def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of the latents of images [h, w, c].

    Raises:
      ValueError: for another shape, or a side that the factor does not divide.
    """
    if len(shape) != 3:
      raise ValueError(f'kl takes images [h, w, c], not {list(shape)}')
    h, w, _ = shape
    if h % self.factor or w % self.factor:
      raise ValueError(
        f'kl halves images {self.factor.bit_length() - 1} times: their sides, '
        f'{h} x {w}, must be multiples of {self.factor}'
      )
    return h // self.factor, w // self.factor, self.latent_channels


class AutoencoderKL(nnx.Module):
  """The encoder, the decoder, and the convolutions around the latents.

  Args:
    config: its sizes.
    channels: of the images.
    rngs: for the initial parameters, which are meaningless: load those of a
      file (`convert/kl.py`).
  """

  def __init__(self, config: KLConfig, channels: int, *, rngs: nnx.Rngs):
    n = config.latent_channels
    self.encoder = Encoder(config, channels, rngs)
    self.decoder = Decoder(config, channels, rngs)
    before, after = config.use_quant_conv, config.use_post_quant_conv
    self.quant_conv = conv(2 * n, 2 * n, 1, rngs) if before else None
    self.post_quant_conv = conv(n, n, 1, rngs) if after else None

  def moments(self, x: Array) -> tuple[Array, Array]:
    """Images [b, h, w, c] in [-1, 1] -> mean and log variance of the latents.

    Both are [b, h / factor, w / factor, latent_channels].
    """
    h = self.encoder(x)
    h = h if self.quant_conv is None else self.quant_conv(h)
    mean, log_variance = jnp.split(h, 2, -1)
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def decode(self, z: Array) -> Array:
    """Latents -> images, about in [-1, 1]."""
    if self.post_quant_conv is not None:
      z = self.post_quant_conv(z)
    return self.decoder(z)


class Encoder(nnx.Module):
  """Images [b, h, w, c] -> [b, h / factor, w / factor, 2 latent_channels]."""

  def __init__(self, config: KLConfig, channels: int, rngs: nnx.Rngs):
    first, *_, last = widths = (
      config.block_out_channels[0],
      *config.block_out_channels,
    )
    groups, layers = config.norm_num_groups, config.layers_per_block
    self.conv_in = conv(channels, first, 3, rngs)
    self.down_blocks = nnx.List(
      Level(i, o, layers, groups, Down if o_next else None, rngs)
      for (i, o), o_next in zip(
        itertools.pairwise(widths), (*widths[2:], 0), strict=True
      )
    )
    self.mid_block = Middle(last, config, rngs)
    self.conv_norm_out = norm(last, groups, rngs)
    self.conv_out = conv(last, 2 * config.latent_channels, 3, rngs)

  def __call__(self, x: Array) -> Array:
    h = self.conv_in(x)
    for block in self.down_blocks:
      h = block(h)
    return self.conv_out(nnx.silu(self.conv_norm_out(self.mid_block(h))))


class Decoder(nnx.Module):
  """Latents [b, h, w, c] -> images [b, factor h, factor w, c]."""

  def __init__(self, config: KLConfig, channels: int, rngs: nnx.Rngs):
    up = config.block_out_channels[::-1]
    first, *_, last = widths = (up[0], *up)
    groups, layers = config.norm_num_groups, config.layers_per_block + 1
    self.conv_in = conv(config.latent_channels, first, 3, rngs)
    self.mid_block = Middle(first, config, rngs)
    self.up_blocks = nnx.List(
      Level(i, o, layers, groups, Up if o_next else None, rngs)
      for (i, o), o_next in zip(
        itertools.pairwise(widths), (*widths[2:], 0), strict=True
      )
    )
    self.conv_norm_out = norm(last, groups, rngs)
    self.conv_out = conv(last, channels, 3, rngs)

  def __call__(self, z: Array) -> Array:
    h = self.mid_block(self.conv_in(z))
    for block in self.up_blocks:
      h = block(h)
    return self.conv_out(nnx.silu(self.conv_norm_out(h)))


class Level(nnx.Module):
  """Residual blocks, and a change of the resolution except at the last."""

  def __init__(
    self,
    n_in: int,
    n_out: int,
    layers: int,
    groups: int,
    resample: 'type[Down | Up] | None',
    rngs: nnx.Rngs,
  ):
    inputs = (n_in, *(n_out,) * (layers - 1))
    self.resnets = nnx.List(Residual(n, n_out, groups, rngs) for n in inputs)
    self.downsamplers = nnx.List([Down(n_out, rngs)] * (resample is Down))
    self.upsamplers = nnx.List([Up(n_out, rngs)] * (resample is Up))

  def __call__(self, h: Array) -> Array:
    for block in (*self.resnets, *self.downsamplers, *self.upsamplers):
      h = block(h)
    return h


class Middle(nnx.Module):
  """Two residual blocks, optionally with attention between them."""

  def __init__(self, width: int, config: KLConfig, rngs: nnx.Rngs):
    groups = config.norm_num_groups
    self.resnets = nnx.List(
      Residual(width, width, groups, rngs) for _ in range(2)
    )
    count = int(config.mid_block_add_attention)
    self.attentions = nnx.List(
      Attention(width, groups, rngs) for _ in range(count)
    )

  def __call__(self, h: Array) -> Array:
    first, second = self.resnets
    h = first(h)
    for attention in self.attentions:
      h = attention(h)
    return second(h)


class Residual(nnx.Module):
  """h + conv(silu(norm(conv(silu(norm(h)))))).

  The h that is added passes a 1 x 1 convolution where the width changes.
  """

  def __init__(self, n_in: int, n_out: int, groups: int, rngs: nnx.Rngs):
    self.norm1, self.conv1 = (
      norm(n_in, groups, rngs),
      conv(n_in, n_out, 3, rngs),
    )
    self.norm2 = norm(n_out, groups, rngs)
    self.conv2 = conv(n_out, n_out, 3, rngs)
    self.conv_shortcut = None if n_in == n_out else conv(n_in, n_out, 1, rngs)

  def __call__(self, h: Array) -> Array:
    new = self.conv1(nnx.silu(self.norm1(h)))
    new = self.conv2(nnx.silu(self.norm2(new)))
    return new + (h if self.conv_shortcut is None else self.conv_shortcut(h))


class Attention(nnx.Module):
  """h + attention of all places, with one head of the whole width."""

  def __init__(self, width: int, groups: int, rngs: nnx.Rngs):
    self.group_norm = norm(width, groups, rngs)
    self.to_q, self.to_k, self.to_v = (
      nnx.Linear(width, width, rngs=rngs) for _ in range(3)
    )
    self.to_out = nnx.List([nnx.Linear(width, width, rngs=rngs)])

  def __call__(self, x: Array) -> Array:
    h = self.group_norm(x).reshape(len(x), -1, x.shape[-1])
    scores = jnp.einsum('bqc,bkc->bqk', self.to_q(h), self.to_k(h))
    weights = nnx.softmax(scores / math.sqrt(x.shape[-1]))
    new = self.to_out[0](jnp.einsum('bqk,bkc->bqc', weights, self.to_v(h)))
    return x + new.reshape(x.shape)


class Down(nnx.Module):
  """A convolution of stride 2, padded at the bottom and at the right only."""

  def __init__(self, width: int, rngs: nnx.Rngs):
    padding = ((0, 1), (0, 1))
    self.conv = nnx.Conv(
      width, width, (3, 3), strides=2, padding=padding, rngs=rngs
    )

  def __call__(self, h: Array) -> Array:
    return self.conv(h)


class Up(nnx.Module):
  """Each pixel becomes 2 x 2, then a convolution."""

  def __init__(self, width: int, rngs: nnx.Rngs):
    self.conv = conv(width, width, 3, rngs)

  def __call__(self, h: Array) -> Array:
    return self.conv(h.repeat(2, 1).repeat(2, 2))


def conv(n_in: int, n_out: int, side: int, rngs: nnx.Rngs) -> nnx.Conv:
  """A convolution of side x side with stride 1, which keeps the resolution."""
  return nnx.Conv(n_in, n_out, (side, side), rngs=rngs)


def norm(width: int, groups: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
  """A group norm."""
  return nnx.GroupNorm(
    width, groups, epsilon=EPS, use_fast_variance=False, rngs=rngs
  )
