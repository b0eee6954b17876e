"""Features of latents of the space `shapes_kl`: what shape is in which cell.

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
CHANNELS, WIDTH, LAYERS = 4, 48, 4  # of latents, and of what follows
KINDS, COLOURS = 8, 8


class ShapesKLFeatures(nnx.Module):
  """Latents -> convolutions of 3 x 3 -> probabilities in each cell.

  They are those of the kinds, of the colours, and of the background.
  """

  signature: ClassVar[str] = 'features'

  def __init__(self, *, rngs: nnx.Rngs):
    sizes = [CHANNELS, *[WIDTH] * LAYERS]
    self.layers = nnx.List(
      nnx.Conv(n, m, (3, 3), rngs=rngs) for n, m in itertools.pairwise(sizes)
    )
    self.kind = nnx.Linear(WIDTH, KINDS + 1, rngs=rngs)
    self.colour = nnx.Linear(WIDTH, COLOURS, rngs=rngs)

  def logits(self, z: Array) -> tuple[Array, Array]:
    """z [b, h, w, 4] -> logits of kinds and none, and of colours.

    Returns:
      [b, h, w, 9], of which the last is the background, and [b, h, w, 8].

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
    """z [b, h, w, 4] -> probabilities [b, h, w, 17]."""
    kind, colour = map(jax.nn.softmax, self.logits(z))
    none = kind[..., KINDS:]
    return jnp.concatenate([kind[..., :KINDS], (1 - none) * colour, none], -1)
