"""DINOv2, whose class token is the feature of FD-DINOv2.

The networks were trained at 518 x 518, 37 x 37 patches; at 224 x 224 their
positions are resized bicubically to 16 x 16. The original adds 0.1 to the 16
when it computes the scale, so that rounding cannot lose a row, and thereby
moves all positions a little; so do we.

Source: Oquab et al., "DINOv2: Learning Robust Visual Features without
Supervision" (2023), https://arxiv.org/abs/2304.07193;
https://github.com/facebookresearch/dinov2; as a metric: Stein et al., "Exposing
flaws of generative model evaluation metrics" (2023),
https://arxiv.org/abs/2306.04675.
"""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flowdistill.networks.features.transformer import (
  Patches,
  make_layers,
  norm,
  standardise,
)

Array = jax.Array
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
EPS = 1e-6
CUBIC = -0.75  # a of PyTorch's bicubic kernel


class DINOv2(nnx.Module):
  """DINOv2 without registers.

  Args:
    width: of a token.
    depth: number of layers.
    heads: of an attention.
    patch: height and width of a patch, in pixels.
    side: height and width of the trained positions, in patches.
    offset: added to the number of patches when positions are resized; 0 as in
      transformers, 0.1 as in the original.
    rngs: for the initial parameters, which are meaningless: load those of a
      file (`convert/dinov2.py`).
  """

  signature: ClassVar[str] = 'features'

  def __init__(
    self,
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int = 14,
    side: int = 37,
    offset: float = 0.1,
    rngs: nnx.Rngs,
  ):
    self.offset = offset
    self.patches = Patches(width, patch, side, bias=True, rngs=rngs)
    self.layers = make_layers(
      width,
      heads,
      depth,
      activation=gelu,
      eps=EPS,
      scaled=True,
      rngs=rngs,
    )
    self.norm = norm(width, EPS, rngs)

  def __call__(self, x: Array) -> dict[str, Array]:
    """Images [b, h, w, 3] in [0, 255] -> `cls`: [b, width], after the norm."""
    x = standardise(x, MEAN, STD)
    resize = functools.partial(resize_positions, offset=self.offset)
    return {'cls': self.norm(self.layers(self.patches(x, resize))[:, 0])}


def gelu(x: Array) -> Array:
  """x Φ(x), exactly."""
  return nnx.gelu(x, approximate=False)


def resize_positions(
  grid: Array, rows: int, columns: int, *, offset: float
) -> Array:
  """Positions [h, w, c] -> [rows, columns, c], bicubic, without a filter.

  As PyTorch's `interpolate` with the scale factors (rows + offset) / h and
  (columns + offset) / w.
  """
  down, across = (
    jnp.asarray(_cubic(n, new, offset), grid.dtype)
    for n, new in zip(grid.shape[:2], (rows, columns), strict=True)
  )
  return jnp.einsum('ih,jw,hwc->ijc', down, across, grid, precision='highest')


def _cubic(n: int, new: int, offset: float) -> np.ndarray:
  """[new, n]: row i has the weights of the n old positions in new one i."""
  place = (np.arange(new) + 0.5) * n / (new + offset) - 0.5
  first = np.floor(place).astype(int) - 1
  weights = np.zeros((new, n))
  for tap in range(4):
    at = np.abs(place - first - tap)
    near = ((CUBIC + 2) * at - (CUBIC + 3)) * at**2 + 1
    far = CUBIC * (((at - 5) * at + 8) * at - 4)
    old = np.clip(first + tap, 0, n - 1)
    np.add.at(weights, (np.arange(new), old), np.where(at <= 1, near, far))
  return weights
