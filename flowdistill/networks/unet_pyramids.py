"""Image pyramids beside the features of a U-Net.

On the way down a pyramid of the input image, on the way up one of the output.
Each module maps (image, features) of a level to both at the next.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(2019), https://arxiv.org/abs/1912.04958, figure 7; for scores of images Song
et al., "Score-Based Generative Modeling through Stochastic Differential
Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H.
"""

import jax
from flax import nnx

from flowdistill.networks.precision import upcast
from flowdistill.networks.resampling import UNIFORM, Resample, double, halve
from flowdistill.networks.unet_layers import BlockConfig, GroupNorm, add, conv3

Array = jax.Array
Pair = tuple[Array, Array]
INPUTS = ('none', 'input_skip', 'residual')
OUTPUTS = ('none', 'output_skip', 'residual')


class InputSkip(nnx.Module):
  """Downsamples the image, and adds a projection of it to h."""

  def __init__(
    self, channels: int, n: int, config: BlockConfig, *, rngs: nnx.Rngs
  ):
    self.fir = config.fir
    self.conv = nnx.Conv(channels, n, (1, 1), kernel_init=UNIFORM, rngs=rngs)

  def __call__(self, image: Array, h: Array) -> Pair:
    image = halve(image, fir=self.fir)
    return image, upcast(self.conv(image)) + h


class Residual(nnx.Module):
  """A branch that is resampled, added to h, and continues as both."""

  def __init__(
    self, before: int, n: int, config: BlockConfig, *, up: bool, rngs: nnx.Rngs
  ):
    self.rescale = config.rescale
    self.resample = Resample(
      before,
      n,
      up=up,
      fir=config.fir,
      averages=config.kind == 'edm',
      dtype=config.dtype,
      rngs=rngs,
    )

  def __call__(self, image: Array, h: Array) -> Pair:
    image = add(self.resample(image), h, rescale=self.rescale)
    return image, image


class OutputSkip(nnx.Module):
  """Upsamples the output so far, and adds the contribution of h."""

  def __init__(
    self, n: int, channels: int, config: BlockConfig, *, rngs: nnx.Rngs
  ):
    self.fir, self.head = (
      config.fir,
      head(n, channels, config, zero=True, rngs=rngs),
    )

  def __call__(self, image: Array | None, h: Array) -> Pair:
    new = self.head(h)
    return new if image is None else double(image, fir=self.fir) + new, h


class ResidualStart(nnx.Module):
  """The start of the output branch, at the lowest resolution."""

  def __init__(self, n: int, config: BlockConfig, *, rngs: nnx.Rngs):
    self.head = head(n, n, config, zero=False, rngs=rngs)

  def __call__(self, image: None, h: Array) -> Pair:
    del image
    return self.head(h), h


def head(
  n_in: int, n_out: int, config: BlockConfig, *, zero: bool, rngs: nnx.Rngs
) -> nnx.Sequential:
  """Norm, silu and a convolution of 3 x 3, in float32."""
  return nnx.Sequential(
    GroupNorm(n_in, config), nnx.silu, conv3(n_in, n_out, zero=zero, rngs=rngs)
  )


def make_input(
  kind: str, image: int, n: int, config: BlockConfig, *, rngs: nnx.Rngs
) -> nnx.Module | None:
  """One of INPUTS, for an image of `image` channels beside n features."""
  if kind == 'input_skip':
    return InputSkip(image, n, config, rngs=rngs)
  if kind == 'residual':
    return Residual(image, n, config, up=False, rngs=rngs)
  return None


def make_output(
  kind: str,
  before: int | None,
  n: int,
  image: int,
  config: BlockConfig,
  *,
  rngs: nnx.Rngs,
) -> nnx.Module | None:
  """One of OUTPUTS for n features, after `before`, None at the first level."""
  if kind == 'output_skip':
    return OutputSkip(n, image, config, rngs=rngs)
  if kind == 'residual' and before is not None:
    return Residual(before, n, config, up=True, rngs=rngs)
  return ResidualStart(n, config, rngs=rngs) if kind == 'residual' else None
