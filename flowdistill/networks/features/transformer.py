"""A layer of a vision transformer, as DINOv2 and CLIP have it.

  x ← x + γ_1 · attention(norm(x));  x ← x + γ_2 · mlp(norm(x))

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020),
https://arxiv.org/abs/2010.11929; γ: Touvron et al., "Going deeper with Image
Transformers" (2021), https://arxiv.org/abs/2103.17239.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.attention import attend
from flowdistill.networks.stack import Stack

Array = jax.Array
WIDER = 4  # the hidden width of the MLP


class Layer(nnx.Module):
  """One layer; without `scaled` there is no γ."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    activation: Callable[[Array], Array],
    eps: float,
    scaled: bool,
    rngs: nnx.Rngs,
  ):
    self.heads, self.activation = heads, activation
    self.norm1, self.norm2 = (norm(width, eps, rngs) for _ in range(2))
    self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
    self.out = nnx.Linear(width, width, rngs=rngs)
    self.fc1 = nnx.Linear(width, WIDER * width, rngs=rngs)
    self.fc2 = nnx.Linear(WIDER * width, width, rngs=rngs)
    self.scaled = scaled
    if scaled:
      self.scale1, self.scale2 = (nnx.Param(jnp.ones(width)) for _ in range(2))

  def __call__(
    self, x: Array, mask: Array | None = None, *, key: Array | None = None
  ) -> Array:
    """Tokens [b, n, width] -> the same; mask as `attend`; ignores key."""
    del key
    b, n, width = x.shape
    qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1)
    q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))
    new = jnp.moveaxis(attend(q, k, v, mask), 1, 2).reshape(b, n, width)
    new = self.out(new)
    x = x + (new * self.scale1[...] if self.scaled else new)
    new = self.fc2(self.activation(self.fc1(self.norm2(x))))
    return x + (new * self.scale2[...] if self.scaled else new)


def norm(width: int, eps: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
  """A layer norm, whose variance is the mean of squared deviations."""
  return nnx.LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)


def make_layers(
  width: int,
  heads: int,
  depth: int,
  *,
  activation: Callable[[Array], Array],
  eps: float,
  scaled: bool,
  rngs: nnx.Rngs,
) -> Stack:
  """`depth` layers, one after the other."""

  def make(rngs: nnx.Rngs) -> Layer:
    return Layer(
      width, heads, activation=activation, eps=eps, scaled=scaled, rngs=rngs
    )

  return Stack(make, depth, rngs=rngs)


class Patches(nnx.Module):
  """Images to tokens: a class token, and one of each patch, with positions.

  Args:
    width: of a token.
    patch: height and width of a patch, in pixels.
    side: height and width, in patches, of what the positions are for.
    bias: whether the projection has a bias.
    rngs: for the initial parameters.
  """

  def __init__(
    self, width: int, patch: int, side: int, *, bias: bool, rngs: nnx.Rngs
  ):
    self.side = side
    self.patch = nnx.Conv(
      3,
      width,
      (patch, patch),
      strides=patch,
      padding='VALID',
      use_bias=bias,
      rngs=rngs,
    )
    key = rngs.params()
    self.token = nnx.Param(jnp.zeros(width))
    shape = (1 + side**2, width)
    self.position = nnx.Param(0.02 * jax.random.normal(key, shape))

  def __call__(
    self, x: Array, resize: Callable[[Array, int, int], Array] | None = None
  ) -> Array:
    """Normalised images [b, h, w, 3] -> [b, 1 + patches, width].

    Args:
      x: images.
      resize: (positions [side, side, width], rows, columns) -> for another
        number of patches; None refuses other images.

    Raises:
      ValueError: for images of another size, without `resize`.
    """
    h = self.patch(x)
    b, rows, columns, width = h.shape
    position = self.position[...]
    if (rows, columns) != (self.side, self.side):
      if resize is None:
        raise ValueError(
          f'the images have {rows} x {columns} patches; the network has '
          f'positions for {self.side} x {self.side}'
        )
      grid = position[1:].reshape(self.side, self.side, width)
      grid = resize(grid, rows, columns).reshape(-1, width)
      position = jnp.concatenate([position[:1], grid])
    token = jnp.broadcast_to(self.token[...], (b, 1, width))
    return jnp.concatenate([token, h.reshape(b, -1, width)], 1) + position


def standardise(
  x: Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> Array:
  """Images in [0, 255] -> (x / 255 − mean) / std of each channel."""
  return (x / 255 - jnp.array(mean, x.dtype)) / jnp.array(std, x.dtype)
