"""The levels of a U-Net: the blocks at one resolution, down and up."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.resampling import Resample
from flowdistill.networks.stack import rematerialised
from flowdistill.networks.unet_blocks import ResBlock, Step
from flowdistill.networks.unet_layers import BlockConfig
from flowdistill.networks.unet_pyramids import make_input, make_output

Array = jax.Array
Run = Callable[[nnx.Module, Array], Array]


class Down(nnx.Module):
  """Blocks at one resolution, then downsampling.

  Args:
    n: channels of the input.
    width: channels of the output.
    image: channels of the image branch.
    config: of all blocks of the network.
    blocks: number of blocks.
    attend: whether attention follows each.
    end: whether it is the lowest resolution, without downsampling.
    pyramid: how the image enters, one of INPUTS.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n: int,
    width: int,
    image: int,
    config: BlockConfig,
    *,
    blocks: int,
    attend: bool,
    end: bool,
    pyramid: str,
    rngs: nnx.Rngs,
  ):
    self.steps = nnx.List(
      Step(m, width, config, attend=attend, rngs=rngs)
      for m in (n, *[width] * (blocks - 1))
    )
    self.shrink = None if end else resize(width, config, up=False, rngs=rngs)
    self.pyramid = (
      None if end else make_input(pyramid, image, width, config, rngs=rngs)
    )

  def __call__(
    self, h: Array, image: Array, run: Run
  ) -> tuple[list[Array], Array]:
    """The output of each layer, and the image branch at the next level."""
    outs = []
    for step in self.steps:
      outs.append(h := run(step, h))
    if self.shrink is not None:
      h = run(self.shrink, h)
      if self.pyramid is not None:
        image, h = self.pyramid(image, h)
      outs.append(h)
    return outs, image


class Up(nnx.Module):
  """Blocks at one resolution, each with a skip, then upsampling.

  Args:
    n: channels of the input.
    width: channels of the output.
    image: channels of the output branch.
    config: of all blocks of the network.
    skips: channels of the skip connections, in the order of the blocks.
    attend: whether attention follows the last block ('adm': each).
    start: whether it is the lowest resolution.
    end: whether it is the highest, without upsampling.
    pyramid: how the output is computed, one of OUTPUTS.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n: int,
    width: int,
    image: int,
    config: BlockConfig,
    *,
    skips: list[int],
    attend: bool,
    start: bool,
    end: bool,
    pyramid: str,
    rngs: nnx.Rngs,
  ):
    attentive = range(len(skips)) if config.kind == 'adm' else [len(skips) - 1]
    self.steps = nnx.List(
      Step(
        (width if i else n) + skip,
        width,
        config,
        attend=attend and i in attentive,
        rngs=rngs,
      )
      for i, skip in enumerate(skips)
    )
    before = None if start else n
    self.pyramid = make_output(pyramid, before, width, image, config, rngs=rngs)
    self.grow = None if end else resize(width, config, up=True, rngs=rngs)

  def __call__(
    self, h: Array, skips: list[Array], image: Array | None, run: Run
  ) -> tuple[Array, Array | None]:
    """h and the output branch at the next level; it consumes `skips`."""
    for step in self.steps:
      h = run(step, jnp.concatenate([h, skips.pop()], axis=-1))
    if self.pyramid is not None:
      image, h = self.pyramid(image, h)
    return (h if self.grow is None else run(self.grow, h)), image


def resize(
  n: int, config: BlockConfig, *, up: bool, rngs: nnx.Rngs
) -> nnx.Module:
  """The down- or upsampling between two levels."""
  if config.kind != 'ddpm':
    way = 'double' if up else 'halve'
    return ResBlock(n, n, config, resize=way, rngs=rngs)
  return Resample(n, n, up=up, fir=config.fir, dtype=config.dtype, rngs=rngs)


def make_run(
  e: Array, key: Array | None, remat: str | None, *said: Array
) -> Run:
  """run(layer, h) with e, a dropout key per layer, and a policy of `REMAT`.

  Steps, which may have attention, also see what is `said`: a text, and which of
  it is real.
  """
  numbers = itertools.count()

  def run(layer: Callable[..., Array], h: Array) -> Array:
    own = None if key is None else jax.random.fold_in(key, next(numbers))

    def call(h: Array, e: Array, *said: Array) -> Array:
      return layer(h, e, *said, key=own)

    seen = said if isinstance(layer, Step) else ()
    return rematerialised(call, remat)(h, e, *seen)

  return run
