"""The levels of a U-Net: what runs at one side of the image, down and up."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.resampling import Resample
from flowdistill.networks.stack import rematerialised
from flowdistill.networks.unet_blocks import ResBlock, Step
from flowdistill.networks.unet_layers import Blocks
from flowdistill.networks.unet_pyramids import make_input, make_output

Array = jax.Array
Run = Callable[[nnx.Module, Array], Array]


class Down(nnx.Module):
  """Blocks at one side, then half of it.

  Args:
    n: channels of the input.
    width: channels of the answer.
    image: channels of the image beside the features.
    of: what the blocks share.
    blocks: how many.
    attend: whether attention follows each.
    end: whether it is the smallest side, after which nothing shrinks.
    pyramid: how the image enters, of INPUTS.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n: int,
    width: int,
    image: int,
    of: Blocks,
    *,
    blocks: int,
    attend: bool,
    end: bool,
    pyramid: str,
    rngs: nnx.Rngs,
  ):
    self.steps = nnx.List(
      Step(m, width, of, attend=attend, rngs=rngs)
      for m in (n, *[width] * (blocks - 1))
    )
    self.shrink = None if end else resize(width, of, up=False, rngs=rngs)
    self.pyramid = (
      None if end else make_input(pyramid, image, width, of, rngs=rngs)
    )

  def __call__(
    self, h: Array, image: Array, run: Run
  ) -> tuple[list[Array], Array]:
    """What each layer put out, and the image at the next side."""
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
  """Blocks at one side, each with a skip, then twice the side.

  Args:
    n: channels of the input.
    width: channels of the answer.
    image: channels of the image.
    of: what the blocks share.
    skips: channels of what comes along, in the order of the blocks.
    attend: whether attention follows the last block ('adm': each).
    start: whether it is the smallest side.
    end: whether it is the largest, after which nothing grows.
    pyramid: how the answer is put together, of OUTPUTS.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    n: int,
    width: int,
    image: int,
    of: Blocks,
    *,
    skips: list[int],
    attend: bool,
    start: bool,
    end: bool,
    pyramid: str,
    rngs: nnx.Rngs,
  ):
    attentive = range(len(skips)) if of.kind == 'adm' else [len(skips) - 1]
    self.steps = nnx.List(
      Step(
        (width if i else n) + skip,
        width,
        of,
        attend=attend and i in attentive,
        rngs=rngs,
      )
      for i, skip in enumerate(skips)
    )
    before = None if start else n
    self.pyramid = make_output(pyramid, before, width, image, of, rngs=rngs)
    self.grow = None if end else resize(width, of, up=True, rngs=rngs)

  def __call__(
    self, h: Array, skips: list[Array], image: Array | None, run: Run
  ) -> tuple[Array, Array | None]:
    """h and the answer so far at the next side; it empties `skips`."""
    for step in self.steps:
      h = run(step, jnp.concatenate([h, skips.pop()], axis=-1))
    if self.pyramid is not None:
      image, h = self.pyramid(image, h)
    return (h if self.grow is None else run(self.grow, h)), image


def resize(n: int, of: Blocks, *, up: bool, rngs: nnx.Rngs) -> nnx.Module:
  """What changes the side between two levels."""
  if of.kind != 'ddpm':
    way = 'double' if up else 'halve'
    return ResBlock(n, n, of, resize=way, rngs=rngs)
  return Resample(n, n, up=up, fir=of.fir, dtype=of.dtype, rngs=rngs)


def make_run(e: Array, key: Array | None, remat: str | None) -> Run:
  """run(layer, h): with e, with a key of its own or none, kept as `remat`."""
  numbers = itertools.count()

  def run(layer: Callable[..., Array], h: Array) -> Array:
    own = None if key is None else jax.random.fold_in(key, next(numbers))

    def call(h: Array, e: Array) -> Array:
      return layer(h, e, key=own)

    return rematerialised(call, remat)(h, e)

  return run
