"""The distance of an objective: a sum of l2, l1 and LPIPS, by their names."""

from collections.abc import Callable

import jax

from flowdistill.flow.losses import DISTANCES, Distance, Reduction
from flowdistill.objectives.roles import MissingRole, Roles

Array = jax.Array
LPIPS = 'lpips'
LPIPS_SOURCE = 'a file of LPIPS weights, .safetensors, .npz or .pth'


def sum_of_distances(
  nets: Roles,
  names: tuple[str, ...],
  resize: int | None,
  reduction: Reduction,
  picture: Callable[[Array], Array] = lambda x: x,
) -> Distance:
  """The sum of the named distances.

  Args:
    nets: with lpips, `perceptual`.
    names: of 'l2', 'l1' and 'lpips', at least one, each at most once.
    resize: side length to which images are resized for lpips; None disables it.
    reduction: of l2 and l1 over an example. LPIPS is a mean over positions.
    picture: what LPIPS sees of either argument.

  Raises:
    ValueError: if no name is given, one does not exist or is given twice, or
      `resize` is below 1.
    MissingRole: if lpips is named and nets has no `perceptual`.
  """
  known = [*DISTANCES, LPIPS]
  if not names or not set(names) <= set(known) or len(set(names)) < len(names):
    raise ValueError(
      f'distance = {names} must name one or more of {", ".join(known)}, each '
      'once'
    )
  if resize is not None and resize < 1:
    raise ValueError(f'resize = {resize} must be at least 1, or None')
  terms = [
    _reduced(DISTANCES[name], reduction) for name in names if name != LPIPS
  ]
  if LPIPS in names:
    if 'perceptual' not in nets:
      raise MissingRole('perceptual', nets, LPIPS_SOURCE)
    perceptual = nets.perceptual
    terms.append(lambda x, y: perceptual(picture(x), picture(y), resize))
  first, *rest = terms
  return lambda x, y: sum((d(x, y) for d in rest), start=first(x, y))


def _reduced(distance: Callable[..., Array], reduction: Reduction) -> Distance:
  return lambda x, y: distance(x, y, reduction)
