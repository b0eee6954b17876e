"""A trained stage that draws pictures of another shape than its data."""

import dataclasses
from collections.abc import Iterable

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.models import Model
from flowdistill.flow.spec import CONTROL, DataSpec
from flowdistill.stages.check_buckets import answer_shape


def in_shape(
  blueprint: Blueprint,
  roles: Iterable[str],
  height: int | None,
  width: int | None,
) -> Blueprint:
  """The stage, abstractly, with samples of `height` x `width` pixels.

  Args:
    blueprint: of the stage.
    roles: the networks that are called.
    height: of a picture; None is that of the data.
    width: likewise.

  Raises:
    ValueError: if the data are no pictures, or have control pictures, or the
      space or a network does not take this shape.
  """
  if height is None and width is None:
    return blueprint
  given = f'height = {height}, width = {width}'
  shape = blueprint.images.shape
  if len(shape) != 3:
    raise ValueError(f'{given} have no effect: {[*shape]} are no images')
  if CONTROL in blueprint.sees.cond:
    raise ValueError(f'{given}: the control pictures are {[*shape]}')
  h, w = height or shape[0], width or shape[1]
  if min(h, w) < 1 or 0 in (height, width):
    raise ValueError(f'{given} must be at least 1 pixel')
  try:
    space = blueprint.stage.space((h, w, shape[2]))
  except ValueError as error:
    raise ValueError(f'{given}: {error}') from error
  sees = dataclasses.replace(blueprint.sees, shape=space.shape)
  for name in roles:
    if (role := blueprint.role(name)).is_drawable:
      _check_network(f'{given}: the {name}', role.model, sees)
  return dataclasses.replace(blueprint, space=space, sees=sees)


def _check_network(what: str, model: Model, sees: DataSpec) -> None:
  reason = ''
  try:
    if answer_shape(model, sees) == sees.shape:
      return
  except (TypeError, ValueError) as error:
    reason = f' ({str(error).partition(chr(10))[0]})'
  raise ValueError(
    f'{what} must take pictures of any shape, as mmdit and U-Nets do whose '
    f'patches or levels divide both sides{reason}'
  )
