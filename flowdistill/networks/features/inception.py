"""InceptionV3 as FID uses it: the network of TensorFlow's graph of 2015.

It differs from the paper and from torchvision's in three places: its average
pools do not count the padding, the last block has a max pool instead, and it
answers 1008 logits. Every convolution is followed by a ReLU; the batch
normalisation between them is folded into the convolutions when weights are read
(`convert/inception.py`). Blocks and layers have the names of torchvision's.

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer
Vision" (2015), https://arxiv.org/abs/1512.00567; the graph
inception-2015-12-05, and its port in https://github.com/toshas/torch-fidelity.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Array = jax.Array
SIDE = 299
SPATIAL = 7  # channels of sFID: 7 x 17 x 17 = 2023 features, about 2048
AVERAGE, MAXIMUM, HALVE = 'average', 'maximum', 'halve'
"""Pools of 3 x 3: two that keep the size, and a maximum with stride 2."""


class Conv(NamedTuple):
  """A convolution with a ReLU; with stride 1 it keeps the size if `padded`."""

  name: str
  width: int
  size: tuple[int, int] = (1, 1)
  stride: int = 1
  padded: bool = True


EDGES = ((0, 0), (1, 1), (1, 1), (0, 0))
Branch = Sequence[str | Conv | Sequence[Conv]]
"""A pool, convolutions, and two of them side by side."""


def _chain(name: str, *layers: tuple[int, ...]) -> list[Conv]:
  """Convolutions name_1, name_2, ... of (channels, height, width[, stride])."""
  return [
    Conv(f'{name}_{i}', width, (h, w), stride[0] if stride else 1)
    for i, (width, h, w, *stride) in enumerate(layers, 1)
  ]


def _mixed_5(pool: int) -> list[Branch]:
  return [
    [Conv('branch1x1', 64)],
    _chain('branch5x5', (48, 1, 1), (64, 5, 5)),
    _chain('branch3x3dbl', (64, 1, 1), (96, 3, 3), (96, 3, 3)),
    [AVERAGE, Conv('branch_pool', pool)],
  ]


def _mixed_6(c: int) -> list[Branch]:
  return [
    [Conv('branch1x1', 192)],
    _chain('branch7x7', (c, 1, 1), (c, 1, 7), (192, 7, 1)),
    _chain(
      'branch7x7dbl',
      *((c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
    ),
    [AVERAGE, Conv('branch_pool', 192)],
  ]


def _mixed_7(pool: str) -> list[Branch]:
  def sides(name: str) -> list[Conv]:
    return [Conv(f'{name}a', 384, (1, 3)), Conv(f'{name}b', 384, (3, 1))]

  return [
    [Conv('branch1x1', 320)],
    [*_chain('branch3x3', (384, 1, 1)), sides('branch3x3_2')],
    [
      *_chain('branch3x3dbl', (448, 1, 1), (384, 3, 3)),
      sides('branch3x3dbl_3'),
    ],
    [pool, Conv('branch_pool', 192)],
  ]


BLOCKS: dict[str, list[Branch]] = {
  'Mixed_5b': _mixed_5(32),
  'Mixed_5c': _mixed_5(64),
  'Mixed_5d': _mixed_5(64),
  'Mixed_6a': [
    [Conv('branch3x3', 384, (3, 3), 2)],
    _chain('branch3x3dbl', (64, 1, 1), (96, 3, 3), (96, 3, 3, 2)),
    [HALVE],
  ],
  'Mixed_6b': _mixed_6(128),
  'Mixed_6c': _mixed_6(160),
  'Mixed_6d': _mixed_6(160),
  'Mixed_6e': _mixed_6(192),
  'Mixed_7a': [
    _chain('branch3x3', (192, 1, 1), (320, 3, 3, 2)),
    _chain(
      'branch7x7x3', (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)
    ),
    [HALVE],
  ],
  'Mixed_7b': _mixed_7(AVERAGE),
  'Mixed_7c': _mixed_7(MAXIMUM),
}
STEM: Branch = (
  Conv('Conv2d_1a_3x3', 32, (3, 3), 2),
  Conv('Conv2d_2a_3x3', 32, (3, 3), padded=False),
  Conv('Conv2d_2b_3x3', 64, (3, 3)),
  HALVE,
  Conv('Conv2d_3b_1x1', 80),
  Conv('Conv2d_4a_3x3', 192, (3, 3), padded=False),
  HALVE,
)


class Inception(nnx.Module):
  """InceptionV3 for FID, sFID and the Inception score.

  Args:
    rngs: for the initial parameters, which are meaningless: load those of a
      file (`convert/inception.py`).
  """

  signature: ClassVar[str] = 'features'

  def __init__(self, *, rngs: nnx.Rngs):
    width = _add(self, STEM, 3, rngs)
    for name, branches in BLOCKS.items():
      mixed = nnx.Module()
      width = sum(_add(mixed, branch, width, rngs) for branch in branches)
      setattr(self, name, mixed)
    self.fc = nnx.Linear(width, 1008, rngs=rngs)

  def __call__(self, x: Array) -> dict[str, Array]:
    """The features of images.

    Args:
      x: images [b, 299, 299, 3] in [0, 255], resized by `tf_bilinear` for FID.

    Returns:
      pool3: [b, 2048], for FID, KID, precision and recall.
      logits: [b, 1008].
      logits_unbiased: [b, 1008], without the bias of the last layer: the
        Inception score is made of them by convention.
      spatial: [b, 2023], the first 7 channels of mixed_6/conv, for sFID.
    """
    x, outputs = _branch(self, STEM, (x - 128) / 128, {}), {}
    for name, branches in BLOCKS.items():
      mixed = getattr(self, name)
      shared = _shared(mixed, branches, x)
      if name == 'Mixed_6d':
        spatial = _branch(mixed, branches[0], x, shared)[..., :SPATIAL]
        outputs['spatial'] = spatial.reshape(len(x), -1)
      parts = [_branch(mixed, branch, x, shared) for branch in branches]
      x = jnp.concatenate(parts, -1)
    pool3 = x.mean((1, 2))
    unbiased = pool3 @ self.fc.kernel[...]
    outputs |= {'pool3': pool3, 'logits_unbiased': unbiased}
    return outputs | {'logits': unbiased + jnp.asarray(self.fc.bias)}


def _add(module: nnx.Module, layers: Branch, width: int, rngs: nnx.Rngs) -> int:
  """Adds the convolutions of layers; input channels -> output channels."""
  for layer in layers:
    if isinstance(layer, Conv):
      conv = nnx.Conv(width, layer.width, layer.size, rngs=rngs)
      setattr(module, layer.name, conv)
      width = layer.width
    elif not isinstance(layer, str):
      width = sum(_add(module, [part], width, rngs) for part in layer)
  return width


def _shared(
  mixed: nnx.Module, branches: Sequence[Branch], x: Array
) -> dict[str, Array]:
  """The products of x with all kernels of 1 x 1 that it meets first, by name.

  One product is faster than one of each branch. An average pool before such a
  kernel is applied after it, to fewer channels, as the two commute.
  """
  firsts = [b[1] if b[0] == AVERAGE else b[0] for b in branches]
  layers = [c for c in firsts if isinstance(c, Conv) and c.size == (1, 1)]
  kernels = [getattr(mixed, layer.name).kernel[...] for layer in layers]
  product = x @ jnp.concatenate(kernels, -1)[0, 0]
  parts = jnp.split(product, np.cumsum([c.width for c in layers])[:-1], -1)
  return {c.name: part for c, part in zip(layers, parts, strict=True)}


def _branch(
  module: nnx.Module, branch: Branch, x: Array, shared: Mapping[str, Array]
) -> Array:
  """The layers of a branch; products that are in `shared` are not repeated."""
  for layer in branch:
    match layer:
      case Conv():
        conv = getattr(module, layer.name)
        if layer.name in shared:
          product = shared[layer.name]
          x = average_pool(product) if branch[0] == AVERAGE else product
        else:
          x = _convolve(x, conv.kernel[...], layer)
        x = nnx.relu(x + jnp.asarray(conv.bias))
      case 'halve':
        x = max_pool(x, 2)
      case 'maximum':
        x = max_pool(jnp.pad(x, EDGES, constant_values=-jnp.inf), 1)
      case 'average':
        pass  # of the product that follows
      case _:
        x = jnp.concatenate([_branch(module, [c], x, {}) for c in layer], -1)
  return x


def _convolve(x: Array, kernel: Array, layer: Conv) -> Array:
  """A convolution without its bias.

  On a CPU XLA is faster with padding than without: the edge is cut off again.
  """
  same = layer.stride == 1
  y = jax.lax.conv_general_dilated(
    x,
    kernel,
    (layer.stride, layer.stride),
    'SAME' if same else 'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return y if layer.padded or not same else y[:, 1:-1, 1:-1]


def average_pool(x: Array) -> Array:
  """Means of 3 x 3 pixels, of those alone that are inside of the image."""
  rows, columns = (_sums(jnp.ones(n), 0) for n in x.shape[1:3])
  return _sums(_sums(x, 1), 2) / (rows[:, None] * columns)[..., None]


def _sums(x: Array, axis: int) -> Array:
  """Of each number and its two neighbours along an axis."""
  edges = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
  return sum(_thirds(jnp.pad(x, edges), axis, 1), jnp.zeros(()))


def max_pool(x: Array, stride: int) -> Array:
  """Maxima of 3 x 3 pixels, without padding."""
  for axis in (1, 2):
    x = functools.reduce(jnp.maximum, _thirds(x, axis, stride))
  return x


def _thirds(x: Array, axis: int, stride: int) -> list[Array]:
  """The first, second and third pixels of all windows of 3 along an axis.

  On a CPU slices of the whole image are faster than a window at each pixel.
  """
  span = x.shape[axis] - 2
  return [jax.lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(3)]
