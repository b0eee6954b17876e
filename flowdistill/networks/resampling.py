"""Up- and downsampling of images and features by a factor of 2.

Without a filter each value is repeated, or 2 x 2 are averaged. With it the taps
(1, 3, 3, 1) / 8 are applied along both axes, with zeros outside, against
aliasing: so the result is nearly equivariant to shifts of a pixel.

Source: Zhang, "Making Convolutional Networks Shift-Invariant Again" (2019),
https://arxiv.org/abs/1904.11486; Karras et al., "Analyzing and Improving the
Image Quality of StyleGAN" (2019), https://arxiv.org/abs/1912.04958.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.precision import upcast

Array = jax.Array
TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8


def double(h: Array, *, fir: bool) -> Array:
  """[b, h, w, c] -> [b, 2 h, 2 w, c]."""
  if fir:
    return filtered(h, padding=2, up=2)
  return h.repeat(2, axis=1).repeat(2, axis=2)


def halve(h: Array, *, fir: bool) -> Array:
  """[b, h, w, c] -> [b, h / 2, w / 2, c], for even h and w."""
  if fir:
    return filtered(h, padding=1, down=2)
  b, rows, columns, c = h.shape
  return h.reshape(b, rows // 2, 2, columns // 2, 2, c).mean((2, 4))


def filtered(h: Array, *, padding: int, up: int = 1, down: int = 1) -> Array:
  """Applies the taps along both axes of every channel.

  Args:
    h: [b, h, w, c].
    padding: zeros on each side, after `up`.
    up: 1, or 2: every pixel is followed by a zero, and doubled, in each axis.
    down: stride of the results, where up is 1.

  Returns:
    [b, h', w', c] with h' = ((h - 1) up + 2 padding - 3) / down + 1, rounded
    down; w' likewise.
  """
  wide = h.astype(jnp.promote_types(h.dtype, jnp.float32))
  for axis in (1, 2):
    if up == 1:
      wide = blurred(wide, axis, padding, down)
    else:
      wide = doubled(wide, axis, padding)
  return wide.astype(h.dtype)


def blurred(h: Array, axis: int, padding: int, down: int) -> Array:
  """The taps along one axis: a sum of shifted copies.

  A convolution with a group for each channel would say the same, and is many
  times slower on a CPU (docs/performance.md).
  """
  h = padded(h, axis, padding, padding)
  last = (h.shape[axis] - len(TAPS)) // down * down
  terms = (
    tap * jax.lax.slice_in_dim(h, k, k + last + 1, down, axis)
    for k, tap in enumerate(TAPS.tolist())
  )
  return functools.reduce(jnp.add, terms)


def doubled(h: Array, axis: int, padding: int) -> Array:
  """Twice the taps, with a zero after every pixel, along one axis.

  Two of the four taps meet zeros. Even and odd results, the two phases, are
  sums of the pixels under the two others, and are interleaved.
  """
  n = h.shape[axis]
  half = n + padding - 2
  phases = []
  for phase in (0, 1):
    tap = (padding - phase) % 2
    start = (phase + tap - padding) // 2
    near, far = (2 * TAPS[tap::2]).tolist()
    part = padded(h, axis, -start, start + half + 1 - n)
    one, other = (
      jax.lax.slice_in_dim(part, k, k + half, axis=axis) for k in (0, 1)
    )
    phases.append(near * one + far * other)
  shape = (*h.shape[:axis], 2 * half, *h.shape[axis + 1 :])
  return jnp.stack(phases, axis + 1).reshape(shape)


def padded(h: Array, axis: int, low: int, high: int) -> Array:
  """Zeros before and after; a negative number of them crops."""
  edges = [(0, 0, 0)] * h.ndim
  edges[axis] = low, high, 0
  return jax.lax.pad(h, jnp.zeros((), h.dtype), edges)


class Resample(nnx.Module):
  """Upsampling or downsampling, and a convolution of 3 x 3.

  Args:
    n_in: channels of the input.
    n_out: channels of the output.
    up: whether it upsamples; otherwise it downsamples.
    fir: whether the taps are applied first.
    averages: whether it downsamples by a mean of 2 x 2 after the convolution,
      instead of its stride, where it does not filter.
    dtype: of the convolution.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n_in: int,
    n_out: int,
    *,
    up: bool,
    fir: bool,
    averages: bool = False,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    self.up, self.fir, self.averages = up, fir, averages and not (up or fir)
    strided = not (up or self.averages)
    conv = nnx.Conv(
      n_in,
      n_out,
      (3, 3),
      strides=2 if strided else 1,
      # One pixel on each side, but with stride 2 only after the last.
      padding='VALID' if fir else ((0, 1), (0, 1)) if strided else (1, 1),
      kernel_init=UNIFORM,
      dtype=dtype,
      rngs=rngs,
    )
    if fir:
      self.fir_conv = conv
    else:
      self.conv = conv

  def __call__(
    self, h: Array, e: Array | None = None, *, key: Array | None = None
  ) -> Array:
    """[b, h, w, c] -> [b, 2 h, 2 w, c'] or half of both; ignores e and key."""
    del e, key
    if self.fir:
      # With so many zeros taps and convolution commute.
      up = {'padding': 3, 'up': 2} if self.up else {'padding': 2}
      return upcast(self.fir_conv(filtered(h, **up)))
    h = upcast(self.conv(double(h, fir=False) if self.up else h))
    return halve(h, fir=False) if self.averages else h


UNIFORM = nnx.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')
"""Initial kernels of the U-Nets."""
