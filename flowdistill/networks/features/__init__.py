"""What metrics ask of: feature networks and their images.

`FEATURES` ship with the package; the weights of `FEATURE_NETWORKS` are files
that a user names (`build/features.py`), in docs/features.md.
"""

from flowdistill.networks.features.digits import digits
from flowdistill.networks.features.resize import RESIZES
from flowdistill.networks.features.table import FEATURE_NETWORKS

FEATURES = {'digits': digits}

__all__ = ['FEATURES', 'FEATURE_NETWORKS', 'RESIZES']
