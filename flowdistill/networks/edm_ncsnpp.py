"""EDM's DDPM++ and NCSN++ with a second time, u(x_t, t, s, cond) of images.

They differ from `ncsnpp.py` in the preconditioning, in what is embedded and
where the label enters, in heads with one layer for q, k and v, and in branches
that average 2 x 2 where nothing filters.

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 7.
"""

from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm import Preconditioned, Sizes
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import (
  check_choices,
  check_dropout,
  check_sizes,
)
from flowdistill.networks.unet_layers import BlockConfig
from flowdistill.networks.unet_pyramids import INPUTS

EMBEDDINGS = ('positional', 'fourier')
OUTPUTS = ('none', 'output_skip')


class EDMNCSNpp(Preconditioned):
  """DDPM++ and NCSN++; the null label adds a bias alone.

  The defaults are DDPM++ for CIFAR-10; `ch_mult` of 64 x 64 is (1, 2, 2, 2).
  NCSN++ has embedding_type='fourier', noise_mult=2, fir=True and
  progressive_input='residual'.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    nf: base number of channels.
    res_blocks: of each level on the way down; on the way up one more.
    ch_mult: channels of each level over nf, from the largest height down.
    attention: heights of the levels that have it; the middle always has it.
    dropout: dropout rate in each block, in [0, 1).
    embedding_type: of the noise level, 'positional' or 'fourier', whose
      derivative in time is in the hundreds.
    noise_mult: features of the noise level over nf.
    embedding_mult: width of the embedding over nf.
    fir: whether down- and upsampling filter.
    progressive: where the output is computed: 'none', after the last level, or
      'output_skip', as a sum over the levels on the way up.
    progressive_input: where the image enters: 'none', the first level;
      'input_skip', each level; 'residual', in a branch of its own.
    augment_dim: numbers of the condition `augment`, 9 in the published
      weights; 0 for none.
    precond: 'edm', 'vp', 've' or 'iddpm' (see `edm_preconditioning`).
    sigma_data: standard deviation of the data ('edm'), above 0.
    time: what is embedded of t: 'edm', the noise level as in the published
      weights, or 'linear', t itself.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or the spec has a condition that
      the network does not take.
  """

  def __init__(
    self,
    spec: DataSpec,
    *,
    nf: int = 128,
    res_blocks: int = 4,
    ch_mult: tuple[int, ...] = (2, 2, 2),
    attention: tuple[int, ...] = (16,),
    dropout: float = 0.13,
    embedding_type: str = 'positional',
    noise_mult: int = 1,
    embedding_mult: int = 4,
    fir: bool = False,
    progressive: str = 'none',
    progressive_input: str = 'none',
    augment_dim: int = 0,
    precond: str = 'edm',
    sigma_data: float = 0.5,
    time: str = 'edm',
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    check_dropout(dropout)
    check_sizes(embedding_mult=embedding_mult)
    check_choices(
      embedding_type=(embedding_type, EMBEDDINGS),
      progressive=(progressive, OUTPUTS),
      progressive_input=(progressive_input, INPUTS),
    )
    sizes = Sizes(
      name='edm_ncsnpp',
      nf=nf,
      res_blocks=res_blocks,
      ch_mult=tuple(ch_mult),
      attention=tuple(attention),
      noise_mult=noise_mult,
      precond=precond,
      sigma_data=sigma_data,
      time=time,
      augment_dim=augment_dim,
      kind=embedding_type,
      progressive_input=progressive_input,
      progressive=progressive,
    )
    config = BlockConfig(
      embedding=embedding_mult * nf,
      kind='edm',
      dropout=dropout,
      dtype=options.products,
      rescale=True,
      fir=fir,
      head=nf * max(ch_mult, default=1),  # one head
      attention_form=options.attention_form,
    )
    super().__init__(spec, sizes, config, options, rngs)
