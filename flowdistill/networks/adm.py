"""ADM with a second time, u(x_t, t, s, cond) of images.

A U-Net whose blocks are scaled and shifted by the embedding of times and label,
change the side themselves, and have attention with heads of 64 channels.

Source: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis"
(2021), https://arxiv.org/abs/2105.05233, section 3; in the form of Karras et
al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
https://arxiv.org/abs/2206.00364, table 7. The defaults are those of Zhu et al.,
"SlimFlow" (2024), https://arxiv.org/abs/2407.12718, for ImageNet at 64 x 64,
whose weights `convert/adm.py` reads.
"""

from collections.abc import Mapping

import jax
from flax import nnx

from flowdistill.networks.embeddings import OneHot, conditioned, make_scalars
from flowdistill.networks.precision import product_dtype, wide
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.stack import check_remat
from flowdistill.networks.unet_layers import Blocks, conv3
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
  """A U-Net of images.

  Args:
    shape: of an example, (h, w, c); 2 ** (levels - 1) divides h and w.
    num_classes: of `cond['label']`, 0 for none; label `num_classes` is null,
      and adds nothing.
    nf: channels over `ch_mult`.
    res_blocks: on the way down at each side; on the way up one more.
    ch_mult: channels over nf, from the largest side to the smallest.
    attention: heights of the levels where it follows each block; between the
      ways down and up it is anyway.
    head_channels: of a head of attention, or of the only one in fewer.
    dropout: rate of dropout in each block, in [0, 1).
    time_scale: τ = time_scale (1 − t) is what is embedded (see `unet_times`).
      It bounds du/dt: a network that is differentiated in time, and starts from
      no weights of others, wants tens.
    max_frequency: of the embeddings of s and scalars, in radians.
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
    nf: int = 128,
    res_blocks: int = 2,
    ch_mult: tuple[int, ...] = (1, 2, 2, 4),
    attention: tuple[int, ...] = (32, 16),
    head_channels: int = 64,
    dropout: float = 0.13,
    time_scale: float = 999.0,
    max_frequency: float = 16.0,
    dtype: str = 'float32',
    remat: str | None = None,
    scalars: tuple[str, ...] = (),
    rngs: nnx.Rngs,
  ):
    check_sizes(nf=nf, res_blocks=res_blocks, head_channels=head_channels)
    check_dropout(dropout)
    check_remat(remat)
    attend = attentive(heights(shape, ch_mult), attention)
    self.remat = remat
    of = Blocks(
      embedding=4 * nf,
      kind='adm',
      dropout=dropout,
      dtype=product_dtype(dtype),
      eps=1e-5,
      head=head_channels,
    )
    self.times = UNetTimes(
      nf,
      kind='adm',
      time_scale=time_scale,
      max_frequency=max_frequency,
      rngs=rngs,
    )
    self.label = OneHot(num_classes, 4 * nf, rngs=rngs) if num_classes else None
    self.scalars = make_scalars(
      scalars, 4 * nf, max_frequency=max_frequency, rngs=rngs
    )
    widths, channels = [nf * multiple for multiple in ch_mult], shape[-1]
    self.first = conv3(channels, widths[0], rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      widths,
      of,
      first=widths[0],
      image=channels,
      blocks=res_blocks,
      attend=attend,
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
