"""ADM with a second time, u(x_t, t, s, cond) of images.

A U-Net whose blocks are scaled and shifted by the embedding of times and label,
down- and upsample themselves, and have attention with heads of 64 channels.

Source: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis"
(2021), https://arxiv.org/abs/2105.05233, section 3; in the form of Karras et
al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
https://arxiv.org/abs/2206.00364, table 7. The defaults are those of Zhu et al.,
"SlimFlow" (2024), https://arxiv.org/abs/2407.12718, for ImageNet at 64 x 64,
whose weights `convert/adm.py` reads.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.embeddings import OneHot, conditioned, make_scalars
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.precision import upcast
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.unet_layers import BlockConfig, conv3
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_pyramids import head
from flowdistill.networks.unet_times import UNetTimes
from flowdistill.networks.unet_trunk import (
  attentive,
  heights,
  make_trunk,
  run_trunk,
)

Array = jax.Array


class ADM(nnx.Module):
  """A U-Net of images; the null label adds nothing to the embedding.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    nf: base number of channels.
    res_blocks: of each level on the way down; on the way up one more.
    ch_mult: channels of each level over nf, from the largest height down.
    attention: heights of the levels where it follows each block; the middle
      always has it.
    head_channels: of an attention head; layers with fewer have one head.
    dropout: dropout rate in each block, in [0, 1).
    time_scale: τ = time_scale (1 − t) is embedded (see `unet_times`). It bounds
      du/dt: tens suit a network that is trained from scratch and
      differentiated in time.
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
    nf: int = 128,
    res_blocks: int = 2,
    ch_mult: tuple[int, ...] = (1, 2, 2, 4),
    attention: tuple[int, ...] = (32, 16),
    head_channels: int = 64,
    dropout: float = 0.13,
    time_scale: float = 999.0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'adm')
    check_sizes(nf=nf, res_blocks=res_blocks, head_channels=head_channels)
    check_dropout(dropout)
    attend = attentive(heights(spec.shape, ch_mult), attention)
    self.remat = options.remat
    config = BlockConfig(
      embedding=4 * nf,
      kind='adm',
      dropout=dropout,
      dtype=options.products,
      eps=1e-5,
      head=head_channels,
      attention_form=options.attention_form,
    )
    self.times = UNetTimes(
      nf,
      kind='adm',
      time_scale=time_scale,
      max_frequency=options.max_frequency,
      rngs=rngs,
    )
    self.label = (
      OneHot(spec.num_classes, 4 * nf, rngs=rngs) if spec.num_classes else None
    )
    self.scalars = make_scalars(options, 4 * nf, rngs=rngs)
    widths, channels = [nf * multiple for multiple in ch_mult], spec.shape[-1]
    self.first = conv3(channels, widths[0], rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      widths,
      config,
      first=widths[0],
      image=channels,
      blocks=res_blocks,
      attend=attend,
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
    h, *_ = run_trunk(trunk, self.first(image), image, run)
    return self.last(h)
