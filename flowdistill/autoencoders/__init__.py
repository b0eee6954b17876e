"""Spaces, functions `f(shape, *, ...) -> Space`: encodings of images.

`shape` is that of an image. Objectives, pairs and samplers use encoded arrays,
evaluators and users see images.
"""

from flowdistill.autoencoders.patches import patch_dct
from flowdistill.autoencoders.space import Space, pixels

SPACES = {'pixels': pixels, 'patch_dct': patch_dct}

__all__ = ['SPACES', 'Space', 'patch_dct', 'pixels']
