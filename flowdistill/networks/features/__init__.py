"""What metrics ask of: feature networks."""

from flowdistill.networks.features.digits import digits

FEATURES = {'digits': digits}
