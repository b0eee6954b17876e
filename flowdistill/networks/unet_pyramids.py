"""Images of several sizes beside the features of a U-Net.

On the way down the image itself, on the way up the answer so far. Each takes
(image, features) of a level and gives back both.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2019), https://arxiv.org/abs/1912.04958, figure 7; for scores of images Song
et al., "Score-Based Generative Modeling through Stochastic Differential
Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H.
"""

import jax
from flax import nnx

from flowdistill.networks.precision import wide
from flowdistill.networks.resampling import UNIFORM, Resample, double, halve
from flowdistill.networks.unet_layers import Blocks, GroupNorm, add, conv3

Array = jax.Array
Pair = tuple[Array, Array]
INPUTS = ('none', 'input_skip', 'residual')
OUTPUTS = ('none', 'output_skip', 'residual')


class InputSkip(nnx.Module):
  """The image at half its side, and a projection of it is added to h."""

  def __init__(self, channels: int, n: int, of: Blocks, *, rngs: nnx.Rngs):
    self.fir = of.fir
    self.conv = nnx.Conv(channels, n, (1, 1), kernel_init=UNIFORM, rngs=rngs)

  def __call__(self, image: Array, h: Array) -> Pair:
    image = halve(image, fir=self.fir)
    return image, wide(self.conv(image)) + h


class Residual(nnx.Module):
  """A branch that is resampled and takes up h, and goes on in its place."""

  def __init__(
    self, before: int, n: int, of: Blocks, *, up: bool, rngs: nnx.Rngs
  ):
    self.rescale = of.rescale
    self.resample = Resample(
      before, n, up=up, fir=of.fir, dtype=of.dtype, rngs=rngs
    )

  def __call__(self, image: Array, h: Array) -> Pair:
    image = add(self.resample(image), h, rescale=self.rescale)
    return image, image


class OutputSkip(nnx.Module):
  """The answer so far at twice its side, and h's part of it is added."""

  def __init__(self, n: int, channels: int, of: Blocks, *, rngs: nnx.Rngs):
    self.fir, self.head = of.fir, head(n, channels, of, zero=True, rngs=rngs)

  def __call__(self, image: Array | None, h: Array) -> Pair:
    new = self.head(h)
    return new if image is None else double(image, fir=self.fir) + new, h


class ResidualStart(nnx.Module):
  """The branch at the smallest side, where there is none so far."""

  def __init__(self, n: int, of: Blocks, *, rngs: nnx.Rngs):
    self.head = head(n, n, of, zero=False, rngs=rngs)

  def __call__(self, image: None, h: Array) -> Pair:
    del image
    return self.head(h), h


def head(
  n_in: int, n_out: int, of: Blocks, *, zero: bool, rngs: nnx.Rngs
) -> nnx.Sequential:
  """Norm, silu and a convolution of 3 x 3, in float32."""
  return nnx.Sequential(
    GroupNorm(n_in, of), nnx.silu, conv3(n_in, n_out, zero=zero, rngs=rngs)
  )


def make_input(
  kind: str, image: int, n: int, of: Blocks, *, rngs: nnx.Rngs
) -> nnx.Module | None:
  """One of INPUTS, for an image of `image` channels beside n features."""
  if kind == 'input_skip':
    return InputSkip(image, n, of, rngs=rngs)
  if kind == 'residual':
    return Residual(image, n, of, up=False, rngs=rngs)
  return None


def make_output(
  kind: str,
  before: int | None,
  n: int,
  image: int,
  of: Blocks,
  *,
  rngs: nnx.Rngs,
) -> nnx.Module | None:
  """One of OUTPUTS for n features, after `before`, None at the first level."""
  if kind == 'output_skip':
    return OutputSkip(n, image, of, rngs=rngs)
  if kind == 'residual' and before is not None:
    return Residual(before, n, of, up=True, rngs=rngs)
  return ResidualStart(n, of, rngs=rngs) if kind == 'residual' else None
