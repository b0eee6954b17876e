"""What metrics ask of: feature networks and their images.

`FEATURES` ship with the package; the weights of `FEATURE_NETWORKS` are files
that a user names (`build/features.py`), in docs/features.md.
"""

from flowdistill.networks.features.resize import RESIZES
from flowdistill.networks.features.shipped import digits, emoji
from flowdistill.networks.features.table import FEATURE_NETWORKS

FEATURES = {'digits': digits, 'emoji': emoji}

__all__ = ['FEATURES', 'FEATURE_NETWORKS', 'RESIZES']
