"""NCSN++ and DDPM++ with a second time, u(x_t, t, s, cond) of images.

A U-Net: levels of residual blocks, some with attention, from the largest height
to the smallest and back, where each block also takes the output of the block of
the same height on the way down (a skip connection).

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H;
the defaults are those of Zhu et al., "SlimFlow" (2024),
https://arxiv.org/abs/2407.12718, whose weights `convert/ncsnpp.py` reads.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.embeddings import (
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.precision import upcast
from flowdistill.networks.ranges import (
  check_choices,
  check_dropout,
  check_sizes,
)
from flowdistill.networks.unet_layers import BlockConfig, conv3
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
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    nf: base number of channels.
    res_blocks: of each level on the way down; on the way up one more.
    ch_mult: channels of each level over nf, from the largest height down.
    attention: heights of the levels that have it; the middle always has it.
    dropout: dropout rate in each block, in [0, 1).
    skip_rescale: whether a sum of two branches is divided by √2.
    resblock_type: 'biggan', whose blocks down- and upsample themselves, or
      'ddpm', with convolutions between the levels.
    embedding_type: of time, 'positional' or 'fourier', which does not
      distinguish times in [0.999, 1].
    fir: whether down- and upsampling filter.
    progressive: where the output is computed: 'none', after the last level;
      'output_skip', as a sum over the levels on the way up; 'residual', in a
      branch of its own.
    progressive_input: where the image enters: 'none', the first level;
      'input_skip', each level; 'residual', in a branch of its own.
    time_scale: τ = time_scale (1 − t) is embedded (see `unet_times`). It bounds
      du/dt: tens suit a network that is trained from scratch and
      differentiated in time.
    fourier_scale: standard deviation of the frequencies of 'fourier'.
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
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'ncsnpp')
    check_sizes(nf=nf, res_blocks=res_blocks)
    check_dropout(dropout)
    check_choices(
      resblock_type=(resblock_type, KINDS),
      embedding_type=(embedding_type, EMBEDDINGS),
      progressive=(progressive, OUTPUTS),
      progressive_input=(progressive_input, INPUTS),
    )
    attend = attentive(heights(spec.shape, ch_mult), attention)
    self.remat = options.remat
    config = BlockConfig(
      embedding=4 * nf,
      kind=resblock_type,
      dropout=dropout,
      rescale=skip_rescale,
      fir=fir,
      dtype=options.products,
      attention_form=options.attention_form,
    )
    self.times = UNetTimes(
      nf,
      kind=embedding_type,
      time_scale=time_scale,
      fourier_scale=fourier_scale,
      max_frequency=options.max_frequency,
      rngs=rngs,
    )
    self.label = make_label(spec.num_classes, 4 * nf, rngs=rngs)
    self.scalars = make_scalars(options, 4 * nf, rngs=rngs)
    channels = spec.shape[-1]
    self.first = conv3(channels, nf, rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      [nf * multiple for multiple in ch_mult],
      config,
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
      else head(nf * ch_mult[0], channels, config, zero=True, rngs=rngs)
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
    image = upcast(x_t)
    trunk = self.down, self.middle, self.up
    h, output, _ = run_trunk(trunk, self.first(image), image, run)
    return output if self.last is None else self.last(h)
