"""Features of latents of the space `shapes_kl`: which shape is nearest.

Its weights ship beside it in `shapes_kl_features.npz`;
`train_shapes_kl_features.py` trained them. A cell stands for 4 x 4 pixels. A
network that draws is aligned with these features (see
`objectives/alignment.py`) as others are with those of DINOv2.
"""

import itertools
import pathlib
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array
WEIGHTS = pathlib.Path(__file__).with_suffix('.npz')
CHANNELS, WIDTH = 4, 48  # of latents, and of what follows
DILATIONS = 1, 1, 2, 4, 2, 1  # a cell sees the others up to 11 cells away
KINDS, COLOURS = 8, 8


class ShapesKLFeatures(nnx.Module):
  """Latents -> dilated convolutions of 3 x 3 -> probabilities in each cell.

  They are those of the kinds and of the colours of the shape whose circle is
  nearest, also where the background is.
  """

  signature: ClassVar[str] = 'features'

  def __init__(self, *, rngs: nnx.Rngs):
    sizes = [CHANNELS, *[WIDTH] * len(DILATIONS)]
    self.layers = nnx.List(
      nnx.Conv(n, m, (3, 3), kernel_dilation=d, rngs=rngs)
      for (n, m), d in zip(itertools.pairwise(sizes), DILATIONS, strict=True)
    )
    self.kind = nnx.Linear(WIDTH, KINDS, rngs=rngs)
    self.colour = nnx.Linear(WIDTH, COLOURS, rngs=rngs)

  def logits(self, z: Array) -> tuple[Array, Array]:
    """z [b, h, w, 4] -> logits of kinds and of colours, [b, h, w, 8] each.

    Raises:
      ValueError: for latents of another space.
    """
    if z.ndim != 4 or z.shape[-1] != CHANNELS:
      raise ValueError(
        f'the features of shapes_kl are of latents [b, h, w, {CHANNELS}], not '
        f'{list(z.shape)}'
      )
    for layer in self.layers:
      z = nnx.gelu(layer(z))
    return self.kind(z), self.colour(z)

  def __call__(self, z: Array) -> Array:
    """z [b, h, w, 4] -> probabilities [b, h, w, 16]."""
    return jnp.concatenate([*map(jax.nn.softmax, self.logits(z))], -1)
