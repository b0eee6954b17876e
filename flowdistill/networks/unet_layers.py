"""The layers of a U-Net of images, and what all of one network share."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.precision import wide
from flowdistill.networks.resampling import UNIFORM

Array = jax.Array
SMALL = nnx.initializers.variance_scaling(0.1, 'fan_avg', 'uniform')
ZEROS = nnx.initializers.zeros


@dataclasses.dataclass(frozen=True)
class Blocks:
  """What the blocks of one network share.

  Attributes:
    embedding: width of the embedding of times and conditions.
    kind: 'ddpm', with convolutions between the levels; 'biggan', whose blocks
      change the side themselves; or 'adm', which are also scaled, and have
      heads in their attention, on the way up after each block too.
    dropout: rate of dropout before the second convolution.
    dtype: of the large products.
    rescale: whether a sum of two branches is divided by √2.
    fir: whether resampling filters.
    groups: of a normalisation, at most.
    eps: added to its variance.
    head: channels of a head of attention ('adm').
  """

  embedding: int
  kind: str
  dropout: float
  dtype: DTypeLike | None
  rescale: bool = False
  fir: bool = False
  groups: int = 32
  eps: float = 1e-6
  head: int = 64


class GroupNorm(nnx.Module):
  """Mean 0 and variance 1 in each group of channels, then scale and bias.

  There are `of.groups`, or fewer of four channels; statistics are float32.

  Raises:
    ValueError: if the groups do not divide the channels.
  """

  def __init__(self, channels: int, of: Blocks):
    self.groups, self.eps = min(channels // 4, of.groups), of.eps
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
