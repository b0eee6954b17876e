"""A light U-Net of images with a second time, u(x_t, t, s, cond).

Its parts are those of ADM, with eight groups in a normalisation and our own
times, whose derivative is bounded: it is for images up to 128 x 128, learnt
from scratch by objectives that differentiate a network in time.

Source of the parts: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image
Synthesis" (2021), https://arxiv.org/abs/2105.05233.
"""

from collections.abc import Mapping

import jax
from flax import nnx

from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.precision import product_dtype, wide
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.stack import check_remat
from flowdistill.networks.unet_layers import Blocks, conv3
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_pyramids import head
from flowdistill.networks.unet_trunk import heights, make_trunk, run_trunk

Array = jax.Array
GROUPS = 8


class UNet(nnx.Module):
  """Blocks from the largest side to the smallest and back.

  Args:
    shape: of an example, (h, w, c); 2 ** (levels - 1) divides h and w.
    num_classes: of `cond['label']`, 0 for none; label `num_classes` is null.
    width: channels over `ch_mult`, a multiple of 8.
    ch_mult: channels over width, from the largest side to the smallest.
    res_blocks: on the way down at each side; on the way up one more.
    attention: it follows each block at heights up to this, 0 for none; between
      the ways down and up it is anyway.
    head_channels: of a head of attention, or of the only one in fewer.
    dropout: rate of dropout in each block, in [0, 1).
    max_frequency: of the time embedding, in radians. It bounds du/dt.
    dtype: of the products in blocks, 'float32' or 'bfloat16'; all else, and the
      answer, is float32 (see `precision.py`).
    remat: what of a block is computed again for the gradient, to save memory:
      'dots', all but its large products with parameters (convolutions are none
      of them); 'full', all; None for nothing.
    scalars: names of conditions [b], such as 'guidance', that are embedded as
      times are, with no effect until it is learnt.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range.
  """

  def __init__(
    self,
    shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 32,
    ch_mult: tuple[int, ...] = (1, 2, 2),
    res_blocks: int = 2,
    attention: int = 16,
    head_channels: int = 64,
    dropout: float = 0.0,
    max_frequency: float = 16.0,
    dtype: str = 'float32',
    remat: str | None = None,
    scalars: tuple[str, ...] = (),
    rngs: nnx.Rngs,
  ):
    check_sizes(width=width, res_blocks=res_blocks, head_channels=head_channels)
    if width % GROUPS:
      raise ValueError(f'width = {width} must be a multiple of {GROUPS}')
    if attention < 0:
      raise ValueError(f'attention = {attention} must be a height, 0 for none')
    check_dropout(dropout)
    check_remat(remat)
    sides = heights(shape, ch_mult)
    self.remat = remat
    of = Blocks(
      embedding=4 * width,
      kind='adm',
      dropout=dropout,
      dtype=product_dtype(dtype),
      groups=GROUPS,
      head=head_channels,
    )
    self.times = TimePair(4 * width, max_frequency=max_frequency, rngs=rngs)
    self.label = make_label(num_classes, 4 * width, rngs=rngs)
    self.scalars = make_scalars(
      scalars, 4 * width, max_frequency=max_frequency, rngs=rngs
    )
    widths, channels = [width * multiple for multiple in ch_mult], shape[-1]
    self.first = conv3(channels, widths[0], rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      widths,
      of,
      first=widths[0],
      image=channels,
      blocks=res_blocks,
      attend=[side <= attention for side in sides],
      rngs=rngs,
    )
    self.last = head(widths[0], channels, of, zero=True, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s, `cond['label']`, scalars [b] -> [b, h, w, c]."""
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    run = make_run(nnx.silu(e), key, self.remat)
    image, trunk = wide(x_t), (self.down, self.middle, self.up)
    h, _ = run_trunk(trunk, self.first(image), image, run)
    return self.last(h)
