"""The discriminator of StyleGAN2: D(x, cond) -> logits, of images or latents.

  1 x 1 convolution -> residual blocks, each of which halves both sides
  -> minibatch standard deviation, 3 x 3 convolution -> h, a vector
  -> logit = ψ(h) + ⟨e(class), h⟩ / √(features of h)

ψ is affine, e a vector for each class, which is 0 where the class is dropped:
then the logit is ψ(h), that of a discriminator without classes. Every layer
has an equalised learning rate, and every downsampling is filtered first.

The sides are halved, rounded down, while the shorter one is at least 8, so
that it ends in 4 to 7: for powers of two this is the published network, and
what is smaller than 4 is refused.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2019), https://arxiv.org/abs/1912.04958; minibatch standard deviation: Karras
et al., "Progressive Growing of GANs for Improved Quality, Stability, and
Variation" (2017), https://arxiv.org/abs/1710.10196, section 3; projection:
Miyato & Koyama, "cGANs with Projection Discriminator" (2018),
https://arxiv.org/abs/1802.05637, eq. 3.
"""

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.flow.spec import LABEL, DataSpec
from flowdistill.networks.embeddings import OneHot
from flowdistill.networks.equalised import (
  EqualisedConv,
  EqualisedLinear,
  activated,
)
from flowdistill.networks.options import DEFAULTS
from flowdistill.networks.precision import PRODUCTS
from flowdistill.networks.ranges import check_choices, check_sizes
from flowdistill.networks.resampling import filtered
from flowdistill.networks.stack import REMAT, rematerialised

Array = jax.Array
NAME = 'stylegan2_discriminator'
SMALLEST = 4  # the shorter side of the last feature map, at least
EPS = 1e-8  # added to a variance, as published


class StyleGAN2Discriminator(nnx.Module):
  """Logits of images [h, w, c] of any channels, from 4 x 4 on.

  Args:
    spec: of the data; the condition `label` is used, others are refused.
    channel_base: a feature map of side n has channel_base / n channels, ...
    channel_max: ... and at most these.
    group: examples over which a standard deviation is computed, at most: the
      largest divisor of the batch is taken. 1 disables it, and D(x) then does
      not depend on the other examples of a batch.
    dtype: of the large products, 'float32' or 'bfloat16'; parameters, sums and
      the logits are float32.
    remat: what the backward pass rematerialises in each block, 'dots' or
      'full'; None disables it.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, the shorter side is below 4, or
      the spec has a condition that the network does not take.
  """

  signature: ClassVar[str] = 'logits'

  def __init__(
    self,
    spec: DataSpec,
    *,
    channel_base: int = 32_768,
    channel_max: int = 512,
    group: int = 4,
    dtype: str = 'float32',
    remat: str | None = None,
    rngs: nnx.Rngs,
  ):
    DEFAULTS.check_conditions(spec, NAME)
    check_sizes(channel_base=channel_base, channel_max=channel_max, group=group)
    check_choices(dtype=(dtype, sorted(PRODUCTS)))
    if remat is not None:
      check_choices(remat=(remat, sorted(REMAT)))
    sides = sides_of(spec.shape)

    def width(side: int) -> int:
      return max(1, min(channel_max, channel_base // side))

    own = {'dtype': PRODUCTS[dtype], 'rngs': rngs}
    widths = [width(max(each)) for each in sides]
    self.first = EqualisedConv(spec.shape[-1], widths[0], 1, **own)
    self.blocks = nnx.List(
      Block(n_in, n_out, **own) for n_in, n_out in itertools.pairwise(widths)
    )
    n, area = widths[-1], math.prod(sides[-1])
    self.conv = EqualisedConv(n + (group > 1), n, 3, **own)
    self.hidden = EqualisedLinear(area * n, n, **own)
    self.last = EqualisedLinear(n, 1, rngs=rngs)
    self.classes = (
      OneHot(spec.num_classes, n, rngs=rngs) if spec.num_classes else None
    )
    self.group, self.remat = group, remat

  def features(self, x: Array) -> Array:
    """x [b, h, w, c] -> h [b, n]."""
    h = activated(self.first(x))
    for block in self.blocks:
      h = rematerialised(block, self.remat)(h)
    h = with_deviation(h, self.group) if self.group > 1 else h
    h = activated(self.conv(h))
    return activated(self.hidden(h.reshape(len(h), -1)))

  def __call__(
    self, x: Array, cond: Mapping[str, Array], *, key: Array | None = None
  ) -> Array:
    """x [b, h, w, c] and `cond['label']` [b] -> logits [b]; ignores `key`."""
    del key
    h = self.features(x)
    logits = self.last(h)[:, 0]
    if self.classes is None:
      return logits
    e = self.classes(cond[LABEL])
    return logits + jnp.sum(e * h, axis=1) / math.sqrt(h.shape[1])


class Block(nnx.Module):
  """Two convolutions beside a linear skip; halves both sides, rounded down.

  The sum of both branches is divided by √2, to preserve the variance.
  """

  def __init__(
    self, n_in: int, n_out: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs
  ):
    own = {'dtype': dtype, 'rngs': rngs}
    halved = {'stride': 2, 'padding': 'VALID', **own}
    self.conv = EqualisedConv(n_in, n_in, 3, **own)
    self.down = EqualisedConv(n_in, n_out, 3, **halved)
    self.skip = EqualisedConv(n_in, n_out, 1, bias=False, **halved)

  def __call__(self, h: Array) -> Array:
    """[b, h, w, n_in] -> [b, h // 2, w // 2, n_out]."""
    new = filtered(activated(self.conv(h)), padding=2)
    skip = self.skip(filtered(h, padding=1))
    return (activated(self.down(new)) + skip) / math.sqrt(2)


def with_deviation(h: Array, group: int) -> Array:
  """[b, h, w, c] -> [b, h, w, c + 1]: how much examples of a batch differ.

  The batch is cut into groups of neighbours. Over each group the standard
  deviation of every feature is taken, and its mean over all features becomes
  one more channel. (The published code strides through the batch instead; of
  neighbours, devices that share a batch need not communicate.)

  Args:
    h: a batch.
    group: examples in a group, at most; the largest divisor of b is taken.
  """
  b, rows, columns, c = h.shape
  size = next(n for n in range(min(group, b), 0, -1) if not b % n)
  groups = h.reshape(b // size, size, rows, columns, c)
  spread = groups - groups.mean(1, keepdims=True)
  deviation = jnp.sqrt(jnp.square(spread).mean(1) + EPS).mean((1, 2, 3))
  shape = (b, rows, columns, 1)
  channel = jnp.repeat(deviation, size)[:, None, None, None]
  return jnp.concatenate([h, jnp.broadcast_to(channel, shape)], axis=-1)


def sides_of(shape: tuple[int, ...]) -> list[tuple[int, int]]:
  """(h, w) of the input, and after each block.

  Raises:
    ValueError: unless the shape is [h, w, c] with h and w of at least 4.
  """
  if len(shape) != 3 or min(shape[:2]) < SMALLEST:
    raise ValueError(
      f'{NAME} takes [h, w, c] with sides of at least {SMALLEST}, not '
      f'{list(shape)}'
    )
  sides = [(shape[0], shape[1])]
  while min(sides[-1]) >= 2 * SMALLEST:
    h, w = sides[-1]
    sides.append((h // 2, w // 2))
  return sides
