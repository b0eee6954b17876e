"""EDM's ADM with a second time, u(x_t, t, s, cond) of images.

It differs from `adm.py` in the preconditioning and in what is embedded.

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 7.
"""

from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm import Preconditioned, Sizes
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.unet_layers import BlockConfig


class EDMADM(Preconditioned):
  """ADM, for ImageNet at 64 x 64; the null label adds nothing.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    nf: base number of channels.
    res_blocks: of each level on the way down; on the way up one more.
    ch_mult: channels of each level over nf, from the largest height down.
    attention: heights of the levels where it follows each block; the middle
      always has it.
    head_channels: of an attention head; layers with fewer have one head.
    dropout: dropout rate in each block, in [0, 1).
    embedding_mult: width of the embedding over nf.
    augment_dim: numbers of the condition `augment`; 0 for none.
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
    nf: int = 192,
    res_blocks: int = 3,
    ch_mult: tuple[int, ...] = (1, 2, 3, 4),
    attention: tuple[int, ...] = (32, 16, 8),
    head_channels: int = 64,
    dropout: float = 0.1,
    embedding_mult: int = 4,
    augment_dim: int = 0,
    precond: str = 'edm',
    sigma_data: float = 0.5,
    time: str = 'edm',
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    check_dropout(dropout)
    check_sizes(embedding_mult=embedding_mult, head_channels=head_channels)
    sizes = Sizes(
      name='edm_adm',
      nf=nf,
      res_blocks=res_blocks,
      ch_mult=tuple(ch_mult),
      attention=tuple(attention),
      precond=precond,
      sigma_data=sigma_data,
      time=time,
      augment_dim=augment_dim,
      kind='adm',
    )
    config = BlockConfig(
      embedding=embedding_mult * nf,
      kind='adm',
      dropout=dropout,
      dtype=options.products,
      eps=1e-5,
      head=head_channels,
      attention_form=options.attention_form,
    )
    super().__init__(spec, sizes, config, options, rngs)
