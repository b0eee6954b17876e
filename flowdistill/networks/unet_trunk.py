"""The trunk of a U-Net: from the highest resolution to the lowest and back.

On the way up each block also takes the output of a block of the same resolution
on the way down.

Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
Segmentation" (2015), https://arxiv.org/abs/1505.04597.
"""

from collections.abc import Collection, Sequence
from typing import Any

import jax
from flax import nnx

from flowdistill.networks.unet_blocks import Step
from flowdistill.networks.unet_layers import BlockConfig
from flowdistill.networks.unet_levels import Down, Run, Up

Array = jax.Array
Trunk = tuple[nnx.List, nnx.List, nnx.List]


def make_trunk(
  widths: Sequence[int],
  config: BlockConfig,
  *,
  first: int,
  image: int,
  blocks: int,
  attend: Sequence[bool],
  output: int | None = None,
  progressive_input: str = 'none',
  progressive: str = 'none',
  rngs: nnx.Rngs,
) -> Trunk:
  """The way down, the middle and the way up.

  Args:
    widths: channels of each level, from the highest resolution.
    config: of all blocks of the network.
    first: channels of the input.
    image: channels of the image.
    blocks: of each level on the way down; on the way up one more.
    attend: whether each level has attention; the middle always has it.
    output: channels of the output, by default those of the image.
    progressive_input: where the image enters, one of INPUTS.
    progressive: where the output is computed, one of OUTPUTS.
    rngs: for the initial parameters alone.

  Returns:
    the levels down, the steps of the middle, and the levels up.
  """
  down, up, end = nnx.List(), nnx.List(), len(widths) - 1
  skips, n, beside = [first], first, image
  for i, width in enumerate(widths):
    level = Down(
      n,
      width,
      beside,
      config,
      blocks=blocks,
      attend=attend[i],
      end=i == end,
      pyramid=progressive_input,
      rngs=rngs,
    )
    down.append(level)
    n = width
    beside = n if progressive_input == 'residual' else image
    skips += [n] * (blocks + (i < end))
  middle = nnx.List(
    Step(n, n, config, attend=attends, rngs=rngs) for attends in (True, False)
  )
  for i, width in reversed(list(enumerate(widths))):
    level = Up(
      n,
      width,
      image if output is None else output,
      config,
      skips=[skips.pop() for _ in range(blocks + 1)],
      attend=attend[i],
      start=i == end,
      end=i == 0,
      pyramid=progressive,
      rngs=rngs,
    )
    up.append(level)
    n = width
  return down, middle, up


def run_trunk(
  trunk: Trunk, h: Array, image: Array, run: Run
) -> tuple[Array, Any, Array]:
  """h [b, h, w, first] and the image, from end to end.

  Returns:
    h; the output branch or None; and what the lowest resolution of the way up
    gives to the next one.
  """
  down, middle, up = trunk
  skips, output = [h], None
  for level in down:
    outs, image = level(skips[-1], image, run)
    skips += outs
  h = skips[-1]
  for step in middle:
    h = run(step, h)
  lowest, *rest = up
  h, output = lowest(h, skips, output, run)
  given = h
  for level in rest:
    h, output = level(h, skips, output, run)
  return h, output, given


def heights(shape: tuple[int, ...], ch_mult: tuple[int, ...]) -> list[int]:
  """The height at each level.

  Raises:
    ValueError: if the shape is not an image's, or `ch_mult` does not fit it.
  """
  if len(shape) != 3:
    raise ValueError(f'a U-Net takes images [h, w, c], not {list(shape)}')
  if not ch_mult or min(ch_mult) < 1:
    raise ValueError(f'ch_mult = {ch_mult} must be multiples, each at least 1')
  least = 2 ** (len(ch_mult) - 1)
  if shape[0] % least or shape[1] % least:
    raise ValueError(
      f'ch_mult = {ch_mult} halves the image {len(ch_mult) - 1} times, and '
      f'{least} does not divide {shape[0]} x {shape[1]}'
    )
  return [shape[0] >> level for level in range(len(ch_mult))]


def attentive(sides: list[int], attention: Collection[int]) -> list[bool]:
  """Whether the height of each level is in `attention`.

  Raises:
    ValueError: if it contains the height of no level.
  """
  if not {*attention} <= {*sides}:
    raise ValueError(
      f'attention = {attention} must be heights of levels, which are {sides}'
    )
  return [side in attention for side in sides]
