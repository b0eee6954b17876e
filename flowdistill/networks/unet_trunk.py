"""The trunk of a U-Net: from the largest side to the smallest and back.

On the way up each block also reads what the block of the same side put out on
the way down.

Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
Segmentation" (2015), https://arxiv.org/abs/1505.04597.
"""

from collections.abc import Collection, Sequence
from typing import Any

import jax
from flax import nnx

from flowdistill.networks.unet_blocks import Step
from flowdistill.networks.unet_layers import Blocks
from flowdistill.networks.unet_levels import Down, Run, Up

Array = jax.Array
Trunk = tuple[nnx.List, nnx.List, nnx.List]


def make_trunk(
  widths: Sequence[int],
  of: Blocks,
  *,
  first: int,
  image: int,
  blocks: int,
  attend: Sequence[bool],
  progressive_input: str = 'none',
  progressive: str = 'none',
  rngs: nnx.Rngs,
) -> Trunk:
  """The way down, the middle and the way up.

  Args:
    widths: channels at each level, from the largest side to the smallest.
    of: what the blocks share.
    first: channels of the input.
    image: channels of the image.
    blocks: on the way down at each level; on the way up one more.
    attend: whether a level has attention; the middle has it anyway.
    progressive_input: where the image enters, of INPUTS.
    progressive: how the answer is put together, of OUTPUTS.
    rngs: for the initial parameters alone.

  Returns:
    levels from the largest side, steps, levels from the smallest side.
  """
  down, up, end = nnx.List(), nnx.List(), len(widths) - 1
  skips, n, beside = [first], first, image
  for i, width in enumerate(widths):
    level = Down(
      n,
      width,
      beside,
      of,
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
    Step(n, n, of, attend=attends, rngs=rngs) for attends in (True, False)
  )
  for i, width in reversed(list(enumerate(widths))):
    level = Up(
      n,
      width,
      image,
      of,
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
) -> tuple[Array, Any]:
  """h [b, h, w, first] and the image beside it -> h, and the answer or None."""
  down, middle, up = trunk
  skips, answer = [h], None
  for level in down:
    outs, image = level(skips[-1], image, run)
    skips += outs
  h = skips[-1]
  for step in middle:
    h = run(step, h)
  for level in up:
    h, answer = level(h, skips, answer, run)
  return h, answer


def heights(shape: tuple[int, ...], ch_mult: tuple[int, ...]) -> list[int]:
  """The height at each level.

  Raises:
    ValueError: if there are none.
  """
  if len(shape) != 3:
    raise ValueError(f'a U-Net takes images [h, w, c], not {list(shape)}')
  if not ch_mult or min(ch_mult) < 1:
    raise ValueError(f'ch_mult = {ch_mult} must be multiples, each at least 1')
  least = 2 ** (len(ch_mult) - 1)
  if shape[0] % least or shape[1] % least:
    raise ValueError(
      f'ch_mult = {ch_mult} halves the side {len(ch_mult) - 1} times, and '
      f'{least} does not divide {shape[0]} x {shape[1]}'
    )
  return [shape[0] >> level for level in range(len(ch_mult))]


def attentive(sides: list[int], attention: Collection[int]) -> list[bool]:
  """Whether each level is one that `attention` names by its height.

  Raises:
    ValueError: if it names a height of none.
  """
  if not {*attention} <= {*sides}:
    raise ValueError(
      f'attention = {attention} must be heights of levels, which are {sides}'
    )
  return [side in attention for side in sides]
