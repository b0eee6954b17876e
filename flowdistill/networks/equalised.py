"""Layers with an equalised learning rate.

A kernel is drawn from N(0, 1) and multiplied by He's constant 1 / √(fan-in) in
every call, so that an optimiser such as Adam, whose updates do not depend on
the scale of the gradient, changes all kernels at the same relative rate.

Source: Karras et al., "Progressive Growing of GANs for Improved Quality,
Stability, and Variation" (2017), https://arxiv.org/abs/1710.10196, section 4.1;
the gain √2 of the activation is as in Karras et al., "A Style-Based Generator
Architecture for Generative Adversarial Networks" (2018),
https://arxiv.org/abs/1812.04948.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.precision import upcast

Array = jax.Array
SLOPE = 0.2  # of the leaky ReLU


def activated(h: Array) -> Array:
  """√2 times the leaky ReLU: about as large as h, [b, ...]."""
  return math.sqrt(2) * jax.nn.leaky_relu(h, SLOPE)


class EqualisedLinear(nnx.Module):
  """x W / √n + b, with b = 0 at initialisation.

  Args:
    n_in: n, features of the input.
    n_out: features of the output.
    dtype: of the product; None is that of the input.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n_in: int,
    n_out: int,
    *,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), (n_in, n_out)))
    self.bias = nnx.Param(jnp.zeros(n_out))
    self.dtype, self.gain = dtype, 1 / math.sqrt(n_in)

  def __call__(self, x: Array) -> Array:
    """[b, n_in] -> [b, n_out], float32 or float64."""
    kernel = self.gain * self.kernel[...]
    if self.dtype is not None:
      x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    return upcast(x @ kernel) + self.bias[...]


class EqualisedConv(nnx.Module):
  """A convolution of k x k, its kernel divided by √(k² n), plus b or not.

  Args:
    n_in: n, channels of the input.
    n_out: channels of the output.
    size: k.
    stride: of the results.
    padding: 'SAME' or 'VALID'.
    bias: whether there is a b, 0 at initialisation.
    dtype: of the convolution; None is that of the input.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n_in: int,
    n_out: int,
    size: int,
    *,
    stride: int = 1,
    padding: str = 'SAME',
    bias: bool = True,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    shape = (size, size, n_in, n_out)
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape))
    self.bias = nnx.Param(jnp.zeros(n_out)) if bias else None
    self.stride, self.padding, self.dtype = stride, padding, dtype
    self.gain = 1 / math.sqrt(size**2 * n_in)

  def __call__(self, h: Array) -> Array:
    """[b, h, w, n_in] -> [b, h', w', n_out], float32 or float64."""
    kernel = self.gain * self.kernel[...]
    dtype = h.dtype if self.dtype is None else self.dtype
    h = jax.lax.conv_general_dilated(
      h.astype(dtype),
      kernel.astype(dtype),
      (self.stride, self.stride),
      self.padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return upcast(h) if self.bias is None else upcast(h) + self.bias[...]
