"""Networks; most are u(x_t [b, ...], t [b], s [b], cond, key=None).

They own no random state: `key=None` is deterministic, and a key draws dropout.
`Network(spec, *, <options>, rngs)` takes shape, classes and conditions from the
`DataSpec`; `signature` says what a network answers: 'average' is u, and
'logits' is a discriminator, D(x [b, ...], cond, key=None) -> [b].
"""

from flowdistill.networks.adm import ADM
from flowdistill.networks.dit import DiT
from flowdistill.networks.edm2 import EDM2
from flowdistill.networks.edm_adm import EDMADM
from flowdistill.networks.edm_ncsnpp import EDMNCSNpp
from flowdistill.networks.features import FEATURES
from flowdistill.networks.flux import Flux
from flowdistill.networks.mlp import MLP
from flowdistill.networks.mmdit import MMDiT
from flowdistill.networks.ncsnpp import NCSNpp
from flowdistill.networks.sd3 import SD3
from flowdistill.networks.sit import SiT
from flowdistill.networks.stylegan2_discriminator import (
  StyleGAN2Discriminator,
)
from flowdistill.networks.unet import UNet

NETWORKS = {
  'adm': ADM,
  'dit': DiT,
  'edm2': EDM2,
  'edm_adm': EDMADM,
  'edm_ncsnpp': EDMNCSNpp,
  'flux': Flux,
  'mlp': MLP,
  'mmdit': MMDiT,
  'ncsnpp': NCSNpp,
  'sd3': SD3,
  'sit': SiT,
  'stylegan2_discriminator': StyleGAN2Discriminator,
  'unet': UNet,
}

__all__ = ['FEATURES', 'NETWORKS']
