"""The layers of a U-Net of images, and the configuration of its blocks."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.precision import upcast
from flowdistill.networks.resampling import UNIFORM

Array = jax.Array
SMALL = nnx.initializers.variance_scaling(0.1, 'fan_avg', 'uniform')
ZEROS = nnx.initializers.zeros


@dataclasses.dataclass(frozen=True)
class BlockConfig:
  """The configuration that the blocks of one network share.

  Attributes:
    embedding: width of the embedding of times and conditions.
    kind: 'ddpm', with convolutions between the levels; 'biggan', whose blocks
      down- and upsample themselves; 'edm', the same with q, k and v in one
      layer and branches that average where nothing filters; or 'adm', whose
      blocks are also scaled by the embedding and have multi-head attention, on
      the way up after each.
    dropout: dropout rate before the second convolution.
    dtype: of the large products.
    rescale: whether a sum of two branches is divided by √2.
    fir: whether down- and upsampling filter.
    groups: of a group norm, at most.
    eps: added to its variance.
    head: channels of an attention head ('adm', 'edm').
    attention_form: see `NetworkOptions`.
    text: width of the tokens of a text that attention sees, too ('adm',
      'edm'); 0 without.
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
  attention_form: str = 'plain'
  text: int = 0


class GroupNorm(nnx.Module):
  """Mean 0 and variance 1 in each group of channels, then scale and bias.

  There are `config.groups`, or fewer with four channels each.

  Raises:
    ValueError: if the groups do not divide the channels.
  """

  def __init__(self, channels: int, config: BlockConfig):
    self.groups, self.eps = min(channels // 4, config.groups), config.eps
    if self.groups < 1 or channels % self.groups:
      raise ValueError(
        f'nf and ch_mult make a layer of {channels} channels, which its '
        f'{self.groups} groups must divide: set nf to a multiple of 32, or of '
        '4 below that'
      )
    self.scale = nnx.Param(jnp.ones(channels))
    self.bias = nnx.Param(jnp.zeros(channels))

  def __call__(self, h: Array) -> Array:
    """[b, h, w, c] -> the same shape, float32 or float64."""
    b, *_, c = h.shape
    groups = upcast(h).reshape(b, -1, self.groups, c // self.groups)
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
  """A convolution of 3 x 3 with stride 1, optionally zero at first."""
  init = ZEROS if zero else UNIFORM
  return nnx.Conv(n_in, n_out, (3, 3), kernel_init=init, dtype=dtype, rngs=rngs)


def add(h: Array, new: Array, *, rescale: bool) -> Array:
  """h + new, divided by √2 if the sum is to preserve the variance."""
  return (h + new) * (math.sqrt(0.5) if rescale else 1)
