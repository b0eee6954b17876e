"""The options of FLUX.1, checked against each other and against the data."""

import math
from collections.abc import Sequence

from flowdistill.flow.spec import CONTROL, DataSpec
from flowdistill.networks.flux_positions import PACK
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.ranges import check_sizes
from flowdistill.networks.text import MASK, POOLED, TEXT, check_text

DISTILLED = 'distilled_guidance'
GUIDANCE = 3.5  # at which FLUX.1-dev is sampled by default
TAKES = (TEXT, POOLED, MASK, CONTROL)


def check_spec(
  spec: DataSpec, options: NetworkOptions, *, guided: bool, scale: float | None
) -> None:
  """Checks that a FLUX takes the examples of a spec.

  Args:
    spec: of the data.
    options: those that all networks share.
    guided: whether a guidance scale is embedded.
    scale: its value where `cond` has none; None if there is no such value.

  Raises:
    ValueError: naming what is missing, or what has another shape.
  """
  takes = (*TAKES, DISTILLED) if guided else TAKES
  options.check_conditions(spec, 'flux', takes)
  check_text(spec)
  if len(spec.shape) != 3 or spec.shape[0] % PACK or spec.shape[1] % PACK:
    raise ValueError(
      'a FLUX takes latents [h, w, c] with even h and w, which are packed '
      f'2 x 2; not {list(spec.shape)}'
    )
  for name, shape in ((TEXT, '[n, d]'), (POOLED, '[d]')):
    if name not in spec.cond:
      raise ValueError(
        f'a FLUX must have the condition {name!r} {shape}, and the data are '
        f'{spec}: encode captions by a text encoder that gives it'
      )
  control = spec.cond.get(CONTROL)
  if control and (
    len(control.shape) != 3 or control.shape[:2] != spec.shape[:2]
  ):
    raise ValueError(
      f'condition {CONTROL!r} has shape {list(control.shape)}; it must be '
      f'[{spec.shape[0]}, {spec.shape[1]}, k]'
    )
  check_guidance(spec, guided=guided, scale=scale)


def check_guidance(
  spec: DataSpec, *, guided: bool, scale: float | None
) -> None:
  """Checks where the guidance scale comes from, as `check_spec`."""
  condition = spec.cond.get(DISTILLED)
  if guided and condition and condition.shape:
    raise ValueError(
      f'condition {DISTILLED!r} has shape {list(condition.shape)}; it must be '
      '[], a number for each example'
    )
  if guided and scale is None and not condition:
    raise ValueError(
      f'{DISTILLED} = None must be a number, such as {GUIDANCE}: the data have '
      f'no condition {DISTILLED!r}, and with guidance_embeds = True the '
      'network embeds one'
    )
  if scale is not None and not math.isfinite(scale):
    raise ValueError(f'{DISTILLED} = {scale} must be finite')
  if not guided and scale != GUIDANCE:
    raise ValueError(
      f'{DISTILLED} = {scale} has no effect with guidance_embeds = False'
    )


def check_published(
  spec: DataSpec,
  *,
  patch_size: int,
  in_channels: int | None,
  out_channels: int | None,
  joint_attention_dim: int | None,
  pooled_projection_dim: int | None,
) -> None:
  """Checks fields of a config.json that the data decide.

  Raises:
    ValueError: naming the first that is not that of the data.
  """
  if patch_size != 1:
    raise ValueError(
      f'patch_size = {patch_size} must be 1: it does not count the packing of '
      'latents, which is 2 x 2 in every FLUX.1'
    )
  area, channels = PACK * PACK, spec.shape[-1]
  control = spec.cond[CONTROL].shape[-1] if CONTROL in spec.cond else 0
  more = f' and {control} of {CONTROL}' if control else ''
  text, pooled = spec.cond[TEXT].shape, spec.cond[POOLED].shape
  for name, given, own, what in (
    ('in_channels', in_channels, area * (channels + control), more),
    ('out_channels', out_channels, area * channels, ''),
  ):
    if given not in (None, own):
      raise ValueError(
        f'{name} = {given} must be {own}, of 2 x 2 latents of {channels} '
        f'channels{what}; None is that of the data'
      )
  for name, given, shape, what in (
    ('joint_attention_dim', joint_attention_dim, text, TEXT),
    ('pooled_projection_dim', pooled_projection_dim, pooled, POOLED),
  ):
    if given not in (None, shape[-1]):
      raise ValueError(
        f'{name} = {given} must be {shape[-1]}, as {what!r} of the data has '
        f'the shape {list(shape)}; None is that of the data'
      )


def check_widths(
  *,
  num_layers: int,
  num_single_layers: int,
  attention_head_dim: int,
  num_attention_heads: int,
  axes_dims_rope: Sequence[int],
) -> None:
  """Checks the sizes of the blocks.

  Raises:
    ValueError: naming the first that is out of range.
  """
  check_sizes(
    attention_head_dim=attention_head_dim,
    num_attention_heads=num_attention_heads,
  )
  depths = {'num_layers': num_layers, 'num_single_layers': num_single_layers}
  for name, depth in depths.items():
    if depth < 0:
      raise ValueError(f'{name} = {depth} must be at least 0')
  if not any(depths.values()):
    raise ValueError('num_layers = 0 must be at least 1 without single layers')
  axes = tuple(axes_dims_rope)
  if len(axes) != 3 or any(size < 2 or size % 2 for size in axes):
    raise ValueError(
      f'axes_dims_rope = {axes} must be three even numbers, of which each is '
      'at least 2'
    )
  if sum(axes) != attention_head_dim:
    raise ValueError(
      f'axes_dims_rope = {axes} must sum to attention_head_dim = '
      f'{attention_head_dim}; its sum is {sum(axes)}'
    )
