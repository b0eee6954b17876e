"""Layers that preserve the magnitude of what goes through them.

The magnitude of an array is its root mean square. A weight is divided by its
own in every forward pass; in training the stored weights are also projected
back to magnitude 1 after each update (`forced`), so that the effective learning
rate does not decay as they grow.

Source: Karras et al., "Analyzing and Improving the Training Dynamics of
Diffusion Models" (2023), https://arxiv.org/abs/2312.02696, appendix B.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.precision import upcast

Array = jax.Array
EPS = 1e-4
SILU = 0.596  # magnitude of the SiLU of unit Gaussian noise


class Forced(nnx.Param):
  """A weight [..., n_out] whose stored columns are kept at magnitude 1."""


class Constant(nnx.Param):
  """An array that is not trained, and on which no weight decay acts."""


def unit(x: Array, axes: int | Sequence[int]) -> Array:
  """x over its magnitude along some axes, equation 29; 0 where x is 0."""
  squares = jnp.square(x).mean(axes, keepdims=True)
  zero = squares == 0  # where the derivative of the root is infinite
  size = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squares)))
  return x / (EPS + size)


def unit_columns(kernel: Array) -> Array:
  """A kernel [..., n_out] with the weights of each output at magnitude 1."""
  return unit(kernel, range(kernel.ndim - 1))


def forced(params: Any, before: Any) -> Any:
  """Parameters with every `Forced` one projected to magnitude 1, equation 66.

  Args:
    params: a state after an update.
    before: the same before it, of which every `Constant` is kept.
  """
  old = dict(nnx.to_flat_state(before))

  def one(path: Any, leaf: Any) -> Any:
    if isinstance(leaf, Forced):
      return leaf.replace(unit_columns(leaf.get_value()))
    return old[path] if isinstance(leaf, Constant) else leaf

  flat = nnx.to_flat_state(params)
  return nnx.from_flat_state({path: one(path, leaf) for path, leaf in flat})


def mp_silu(x: Array) -> Array:
  """Equation 81."""
  return nnx.silu(x) / SILU


def mp_sum(a: Array, b: Array, share: float) -> Array:
  """(1 − share) a + share b at the magnitude of a and b, equation 88."""
  return (a + share * (b - a)) / math.hypot(1 - share, share)


def mp_cat(a: Array, b: Array, share: float = 0.5) -> Array:
  """Both along the last axis, with a share of magnitude each, equation 103."""
  n, m = a.shape[-1], b.shape[-1]
  scale = math.sqrt((n + m) / ((1 - share) ** 2 + share**2))
  a = a * (scale * (1 - share) / math.sqrt(n))
  return jnp.concatenate([a, b * (scale * share / math.sqrt(m))], axis=-1)


class MPFourier(nnx.Module):
  """√2 cos(frequency c + phase), equation 75; neither is trained."""

  def __init__(self, size: int, *, rngs: nnx.Rngs):
    normal = jax.random.normal(rngs.params(), (size,))
    self.frequencies = Constant(2 * math.pi * normal)
    uniform = jax.random.uniform(rngs.params(), (size,))
    self.phases = Constant(2 * math.pi * uniform)

  def __call__(self, c: Array) -> Array:
    """c [b] -> [b, size], float32 or float64."""
    frequencies, phases = (
      jax.lax.stop_gradient(each[...])
      for each in (self.frequencies, self.phases)
    )
    angles = upcast(c)[:, None] * frequencies + phases
    return math.sqrt(2) * jnp.cos(angles)


class MPLinear(nnx.Module):
  """A product with a weight of magnitude 1, equation 47; without a bias."""

  def __init__(
    self,
    n_in: int,
    n_out: int,
    *,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    kernel = jax.random.normal(rngs.params(), (n_in, n_out))
    self.kernel, self.dtype = Forced(kernel), dtype

  def __call__(self, h: Array, gain: Array | float = 1.0) -> Array:
    """[..., n_in] -> [..., n_out], float32 or float64."""
    return upcast(jnp.matmul(*rounded(h, self.kernel[...], gain, self.dtype)))


class MPConv(nnx.Module):
  """The same as a convolution of 3 x 3 with stride 1."""

  def __init__(
    self,
    n_in: int,
    n_out: int,
    *,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    kernel = jax.random.normal(rngs.params(), (3, 3, n_in, n_out))
    self.kernel, self.dtype = Forced(kernel), dtype

  def __call__(self, h: Array, gain: Array | float = 1.0) -> Array:
    """[b, h, w, n_in] -> [b, h, w, n_out], float32 or float64."""
    h, kernel = rounded(h, self.kernel[...], gain, self.dtype)
    numbers = ('NHWC', 'HWIO', 'NHWC')
    return upcast(
      jax.lax.conv_general_dilated(
        h, kernel, (1, 1), 'SAME', dimension_numbers=numbers
      )
    )


def rounded(
  h: Array, kernel: Array, gain: Array | float, dtype: DTypeLike | None
) -> tuple[Array, Array]:
  """Both factors of a product in its dtype, the weight normalised."""
  fan_in = math.prod(kernel.shape[:-1])
  kernel = unit_columns(kernel) * (gain / math.sqrt(fan_in))
  dtype = dtype or jnp.result_type(h, kernel)
  return h.astype(dtype), kernel.astype(dtype)
