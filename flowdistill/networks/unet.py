"""A light U-Net of images with a second time, u(x_t, t, s, cond).

Its layers are those of ADM, but a group norm has eight groups, and the times
are embedded by `TimePair`, whose derivative is bounded: it suits images up to
128 x 128 and training from scratch by objectives that differentiate the network
in time.

Source of the layers: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image
Synthesis" (2021), https://arxiv.org/abs/2105.05233.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.precision import upcast
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.unet_layers import BlockConfig, conv3
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_pyramids import head
from flowdistill.networks.unet_trunk import heights, make_trunk, run_trunk

Array = jax.Array
GROUPS = 8


class UNet(nnx.Module):
  """A U-Net of images.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    width: base number of channels, a multiple of 8.
    ch_mult: channels of each level over width, from the largest height down.
    res_blocks: of each level on the way down; on the way up one more.
    attention: it follows each block at heights up to this; 0 disables it. The
      middle always has it.
    head_channels: of an attention head; layers with fewer have one head.
    dropout: dropout rate in each block, in [0, 1).
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or the spec has a condition that
      the network does not take.
  """

  signature: ClassVar[str] = 'average'

  def __init__(
    self,
    spec: DataSpec,
    *,
    width: int = 32,
    ch_mult: tuple[int, ...] = (1, 2, 2),
    res_blocks: int = 2,
    attention: int = 16,
    head_channels: int = 64,
    dropout: float = 0.0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'unet')
    check_sizes(width=width, res_blocks=res_blocks, head_channels=head_channels)
    if width % GROUPS:
      raise ValueError(f'width = {width} must be a multiple of {GROUPS}')
    if attention < 0:
      raise ValueError(f'attention = {attention} must be a height, 0 for none')
    check_dropout(dropout)
    sides = heights(spec.shape, ch_mult)
    self.remat = options.remat
    config = BlockConfig(
      embedding=4 * width,
      kind='adm',
      dropout=dropout,
      dtype=options.products,
      groups=GROUPS,
      head=head_channels,
      attention_form=options.attention_form,
    )
    self.times = TimePair(
      4 * width, max_frequency=options.max_frequency, rngs=rngs
    )
    self.label = make_label(spec.num_classes, 4 * width, rngs=rngs)
    self.scalars = make_scalars(options, 4 * width, rngs=rngs)
    widths = [width * multiple for multiple in ch_mult]
    channels = spec.shape[-1]
    self.first = conv3(channels, widths[0], rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      widths,
      config,
      first=widths[0],
      image=channels,
      blocks=res_blocks,
      attend=[side <= attention for side in sides],
      rngs=rngs,
    )
    self.last = head(widths[0], channels, config, zero=True, rngs=rngs)

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
    image, trunk = upcast(x_t), (self.down, self.middle, self.up)
    h, _ = run_trunk(trunk, self.first(image), image, run)
    return self.last(h)
