"""NCSN++ and DDPM++ with a second time, u(x_t, t, s, cond) of images.

A U-Net: at each of its sides residual blocks, here and there attention, from
the largest side to the smallest and back, where each block also reads what the
block of the same side put out on the way down.

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H;
the defaults are those of Zhu et al., "SlimFlow" (2024),
https://arxiv.org/abs/2407.12718, whose weights `convert/ncsnpp.py` reads.
"""

from collections.abc import Mapping

import jax
from flax import nnx

from flowdistill.networks.embeddings import (
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.precision import product_dtype, wide
from flowdistill.networks.ranges import (
  check_choices,
  check_dropout,
  check_sizes,
)
from flowdistill.networks.stack import check_remat
from flowdistill.networks.unet_layers import Blocks, conv3
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_pyramids import INPUTS, OUTPUTS, head
from flowdistill.networks.unet_times import UNetTimes
from flowdistill.networks.unet_trunk import (
  attentive,
  heights,
  make_trunk,
  run_trunk,
)

Array = jax.Array
KINDS = ('biggan', 'ddpm')
EMBEDDINGS = ('positional', 'fourier')


class NCSNpp(nnx.Module):
  """A U-Net of images.

  Args:
    shape: of an example, (h, w, c); 2 ** (levels - 1) divides h and w.
    num_classes: of `cond['label']`, 0 for none; label `num_classes` is null.
    nf: channels at the largest side.
    res_blocks: on the way down at each side; on the way up one more.
    ch_mult: channels over nf, from the largest side to the smallest.
    attention: heights of the levels that have it; the smallest has it anyway.
    dropout: rate of dropout in each block, in [0, 1).
    skip_rescale: whether a sum of two branches is divided by √2.
    resblock_type: 'biggan', whose blocks change the side themselves, or 'ddpm',
      with convolutions between the levels.
    embedding_type: of time, 'positional' or 'fourier', which has no more than
      one answer for t in [0.999, 1].
    fir: whether changes of side are filtered.
    progressive: how the answer is put together on the way up: 'none', at the
      end; 'output_skip', a part at each side; 'residual', in a branch.
    progressive_input: where the image enters: 'none', at the largest side;
      'input_skip', at each side; 'residual', in a branch.
    time_scale: τ = time_scale (1 − t) is what is embedded (see `unet_times`).
      It bounds du/dt: a network that is differentiated in time, and starts from
      no weights of others, wants tens.
    fourier_scale: of the frequencies of 'fourier'.
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
    res_blocks: int = 4,
    ch_mult: tuple[int, ...] = (1, 2, 2, 2),
    attention: tuple[int, ...] = (16,),
    dropout: float = 0.15,
    skip_rescale: bool = True,
    resblock_type: str = 'biggan',
    embedding_type: str = 'positional',
    fir: bool = False,
    progressive: str = 'none',
    progressive_input: str = 'none',
    time_scale: float = 999.0,
    fourier_scale: float = 16.0,
    max_frequency: float = 16.0,
    dtype: str = 'float32',
    remat: str | None = None,
    scalars: tuple[str, ...] = (),
    rngs: nnx.Rngs,
  ):
    check_sizes(nf=nf, res_blocks=res_blocks)
    check_dropout(dropout)
    check_remat(remat)
    check_choices(
      resblock_type=(resblock_type, KINDS),
      embedding_type=(embedding_type, EMBEDDINGS),
      progressive=(progressive, OUTPUTS),
      progressive_input=(progressive_input, INPUTS),
    )
    attend = attentive(heights(shape, ch_mult), attention)
    self.remat = remat
    of = Blocks(
      embedding=4 * nf,
      kind=resblock_type,
      dropout=dropout,
      rescale=skip_rescale,
      fir=fir,
      dtype=product_dtype(dtype),
    )
    self.times = UNetTimes(
      nf,
      kind=embedding_type,
      time_scale=time_scale,
      fourier_scale=fourier_scale,
      max_frequency=max_frequency,
      rngs=rngs,
    )
    self.label = make_label(num_classes, 4 * nf, rngs=rngs)
    self.scalars = make_scalars(
      scalars, 4 * nf, max_frequency=max_frequency, rngs=rngs
    )
    channels = shape[-1]
    self.first = conv3(channels, nf, rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      [nf * multiple for multiple in ch_mult],
      of,
      first=nf,
      image=channels,
      blocks=res_blocks,
      attend=attend,
      progressive_input=progressive_input,
      progressive=progressive,
      rngs=rngs,
    )
    self.last = (
      None
      if progressive == 'output_skip'
      else head(nf * ch_mult[0], channels, of, zero=True, rngs=rngs)
    )

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
    image = wide(x_t)
    trunk = self.down, self.middle, self.up
    h, answer = run_trunk(trunk, self.first(image), image, run)
    return answer if self.last is None else self.last(h)
