"""Networks with one signature: u(x_t [b, ...], t [b], s [b], cond, key=None).

They own no random state: `key=None` is deterministic, with a key dropout is
drawn from it. `shape` is that of one example, `num_classes` 0 for none.
"""

from flowdistill.networks.adm import ADM
from flowdistill.networks.dit import DiT
from flowdistill.networks.features import FEATURES
from flowdistill.networks.mlp import MLP
from flowdistill.networks.ncsnpp import NCSNpp
from flowdistill.networks.unet import UNet

NETWORKS = {
  'adm': ADM,
  'dit': DiT,
  'mlp': MLP,
  'ncsnpp': NCSNpp,
  'unet': UNet,
}

__all__ = ['FEATURES', 'NETWORKS']
