"""LPIPS: the distance of two images in the features of a VGG16.

  D(x, y) = Σ_l mean_hw Σ_c w_lc (φ̂_l(x) − φ̂_l(y))²

φ_l are the activations relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of a
VGG16 trained on ImageNet, φ̂ = φ / (‖φ‖ + eps) over the channels of each pixel,
and w_l >= 0 weights trained on human judgements.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric" (2018), https://arxiv.org/abs/1801.03924, eq. 1; Simonyan &
Zisserman, "Very Deep Convolutional Networks" (2014),
https://arxiv.org/abs/1409.1556, table 1 (D).
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array
BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
"""The widths of VGG16's convolutions; between blocks the size is halved."""
SMALLEST = 2 ** (len(BLOCKS) - 1)
# The mean and the standard deviation of ImageNet, for images in [-1, 1].
MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)


class LPIPS(nnx.Module):
  """Version 0.1 of LPIPS with VGG16.

  Args:
    eps: added to the norm of a pixel's features.
    rngs: for the initial parameters, which are meaningless: load those of a
      file (`convert/lpips.py`).
  """

  signature: ClassVar[str] = 'distance'

  def __init__(self, *, eps: float = 1e-10, rngs: nnx.Rngs):
    self.eps = eps
    self.convs = make_convolutions(rngs)
    self.lins = nnx.List(
      nnx.Conv(block[-1], 1, (1, 1), use_bias=False, rngs=rngs)
      for block in BLOCKS
    )

  def __call__(self, x: Array, y: Array, resize: int | None) -> Array:
    """The distance of each pair of images.

    Args:
      x: images [b, h, w, c] in [-1, 1], c = 1 (grey) or 3 (red, green, blue).
      y: images like x.
      resize: height and width to which both are resized first; None disables
        it.

    Returns:
      distances [b], 0 for equal images.

    Raises:
      ValueError: if x and y are not such images, or smaller than 16 x 16.
    """
    of_x, of_y = (self.features(prepare(image, resize)) for image in (x, y))
    layers = zip(self.lins, of_x, of_y, strict=True)
    terms = [jnp.mean(w(jnp.square(a - b)), (1, 2, 3)) for w, a, b in layers]
    return jnp.sum(jnp.stack(terms), 0)

  def features(self, x: Array) -> list[Array]:
    """Normalised images [b, h, w, 3] -> φ̂_1 .. φ̂_5."""
    return [unit_channels(h, self.eps) for h in taps(self.convs, x)]


def make_convolutions(rngs: nnx.Rngs) -> nnx.List:
  """The 13 convolutions of VGG16."""
  widths = [3, *itertools.chain(*BLOCKS)]
  return nnx.List(
    nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in itertools.pairwise(widths)
  )


def taps(convs: nnx.List, x: Array) -> Iterator[Array]:
  """Normalised images [b, h, w, 3] -> the last activations of each block."""
  layers = iter(convs)
  for i, block in enumerate(BLOCKS):
    x = nnx.max_pool(x, (2, 2), strides=(2, 2)) if i else x
    for _ in block:
      x = nnx.relu(next(layers)(x))
    yield x


def prepare(x: Array, resize: int | None) -> Array:
  """Images [b, h, w, 1 or 3] in [-1, 1] -> resized, [b, h, w, 3], normalised.

  Raises:
    ValueError: see `LPIPS`.
  """
  if x.ndim != 4 or x.shape[-1] not in (1, 3):
    raise ValueError(
      f'LPIPS compares images [b, h, w, 1 or 3], not {list(x.shape)}'
    )
  side = min(x.shape[1:3]) if resize is None else resize
  if side < SMALLEST:
    raise ValueError(
      f'resize = {resize} gives VGG16 images of size {side}, which it halves '
      f'{len(BLOCKS) - 1} times: it must be at least {SMALLEST}'
    )
  if resize is not None:
    x = resize_bilinear(x, resize)
  x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
  return (x - jnp.array(MEAN, x.dtype)) / jnp.array(STD, x.dtype)


def resize_bilinear(x: Array, size: int) -> Array:
  """[b, h, w, c] -> [b, size, size, c], with the corners aligned.

  In PyTorch's terms: bilinear, align_corners=True, no antialiasing.
  """
  down, across = (_hats(n, size, x.dtype) for n in x.shape[1:3])
  return jnp.einsum('ih,jw,bhwc->bijc', down, across, x, precision='highest')


def _hats(n: int, size: int, dtype: jnp.dtype) -> Array:
  """[size, n]: row i has the weights of the n pixels in new pixel i."""
  place = jnp.linspace(0, n - 1, size, dtype=dtype)[:, None]
  return jnp.maximum(0, 1 - jnp.abs(place - jnp.arange(n)))


def unit_channels(h: Array, eps: float) -> Array:
  """h / (‖h‖ + eps) over the last axis.

  A pixel without any activation stays 0, with a finite gradient.
  """
  square = jnp.sum(jnp.square(h), -1, keepdims=True)
  return h / (jnp.sqrt(jnp.where(square == 0, 1, square)) + eps)
