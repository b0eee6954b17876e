"""Spaces, functions `f(shape, *, ...) -> Space`: what networks see of pictures.

`shape` is that of a picture. Objectives, pairs and samplers see the space,
evaluators and people see pictures.
"""

from flowdistill.autoencoders.patches import patch_dct
from flowdistill.autoencoders.space import Space, pixels

SPACES = {'pixels': pixels, 'patch_dct': patch_dct}

__all__ = ['SPACES', 'Space', 'patch_dct', 'pixels']
