"""Scenes of shapes: what is in a picture, and how it is drawn.

A scene belongs to one of the six categories of GenEval, which says how many
shapes there are and in what they must differ. Shapes never touch.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from flowdistill.datasets.keyed_draws import KeyedDraws
from flowdistill.datasets.shape_combinations import belongs
from flowdistill.datasets.shape_kinds import (
  BACKGROUNDS,
  COLOURS,
  KINDS,
  REACH,
  coverage,
  extent,
)
from flowdistill.metrics.geneval import TAGS

GAP = 0.05  # between two shapes at least, in sides of the picture
MARGIN = 0.03  # to the edge
SLANT = 0.45  # of an offset's shorter part to its longer one, for 'left of' ...
RADII = {1: (0.15, 0.36), 2: (0.14, 0.22), 3: (0.14, 0.18), 4: (0.13, 0.16)}
"""Number of shapes -> least and most radius, in sides of the picture."""
SMALL, LARGE = 0.2, 0.3  # radii below and above which captions say so
TRIES = 30  # of placing one shape


@dataclasses.dataclass(frozen=True)
class Shape:
  """A shape of a scene.

  Attributes:
    kind: one of KINDS.
    colour: one of COLOURS.
    radius: in sides of the picture.
    x: of the centre, in sides of the picture from the left.
    y: the same from above.
  """

  kind: str
  colour: str
  radius: float
  x: float
  y: float

  @property
  def size(self) -> str:
    """'small', 'large', or '' for what is neither."""
    if self.radius < SMALL:
      return 'small'
    return 'large' if self.radius > LARGE else ''

  @property
  def box(self) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, in sides of the picture."""
    ends = np.reshape(extent(self.kind), (2, 2)) * self.radius
    ends += np.asarray([self.x, self.y])
    left, top, right, bottom = ends.ravel().tolist()
    return left, top, right, bottom


@dataclasses.dataclass(frozen=True)
class Scene:
  """What is in a picture.

  Attributes:
    tag: the category, one of TAGS.
    background: one of BACKGROUNDS.
    shapes: in the order in which captions name them.
  """

  tag: str
  background: str
  shapes: tuple[Shape, ...]


def draw_scene(draws: KeyedDraws, tag: str, split: str) -> Scene:
  """A random scene of a category and a split, see `shape_combinations.py`."""
  while True:
    kinds, colours = _what(draws, tag)
    if belongs(tag, kinds, colours, split):
      break
  background = draws.choose([*BACKGROUNDS])
  return Scene(tag, background, _place(draws, tag, kinds, colours))


def _what(draws: KeyedDraws, tag: str) -> tuple[list[str], list[str]]:
  """The kinds and the colours of the shapes of a category."""
  kinds, colours = [*KINDS], [*COLOURS]
  if tag in ('single_object', 'colors'):
    return [draws.choose(kinds)], [draws.choose(colours)]
  if tag == 'counting':
    n = 2 + draws.below(3)
    return [draws.choose(kinds)] * n, [draws.choose(colours) for _ in range(n)]
  two = draws.choose_distinct(kinds, 2)
  if tag == 'color_attr':
    return two, draws.choose_distinct(colours, 2)
  return two, [draws.choose(colours) for _ in two]


def _place(
  draws: KeyedDraws, tag: str, kinds: Sequence[str], colours: Sequence[str]
) -> tuple[Shape, ...]:
  """Places shapes one after the other, and begins anew if there is no room."""
  put = _beside if tag == 'position' else _anywhere
  while True:
    placed: list[Shape] = []
    for kind, colour in zip(kinds, colours, strict=True):
      radius = draws.uniform(*RADII[len(kinds)])
      tries = (put(draws, radius, placed) for _ in range(TRIES))
      centre = next(filter(None, tries), None)
      if centre is None:
        break
      placed.append(Shape(kind, colour, radius, *centre))
    if len(placed) == len(kinds):
      return tuple(placed)


def _anywhere(
  draws: KeyedDraws, radius: float, placed: Sequence[Shape]
) -> tuple[float, float] | None:
  """A centre in the picture; None if a shape there would touch another."""
  low, high = radius + MARGIN, 1 - radius - MARGIN
  x, y = draws.uniform(low, high), draws.uniform(low, high)
  near = (
    math.hypot(x - other.x, y - other.y) <= apart(radius, other)
    for other in placed
  )
  return None if any(near) else (x, y)


def apart(radius: float, other: Shape) -> float:
  """How far from another shape the centre of one must be."""
  return REACH * (radius + other.radius) + GAP


def _beside(
  draws: KeyedDraws, radius: float, placed: Sequence[Shape]
) -> tuple[float, float] | None:
  """A centre clearly left of, right of, above or below the last shape."""
  if not placed:
    return _anywhere(draws, radius, placed)
  other = placed[-1]
  long = draws.uniform(apart(radius, other), 1.0) * draws.choose((-1, 1))
  short = abs(long) * draws.uniform(-SLANT, SLANT)
  dx, dy = (long, short) if draws.chance(0.5) else (short, long)
  x, y = other.x + dx, other.y + dy
  low, high = radius + MARGIN, 1 - radius - MARGIN
  return (x, y) if low <= min(x, y) and max(x, y) <= high else None


def scene_of(
  seed: int, index: int, split: str, categories: Sequence[str] = TAGS
) -> tuple[Scene, KeyedDraws]:
  """Scene number `index` of a split, and the draws that follow it.

  Scenes are of the categories in turn.
  """
  draws = KeyedDraws(seed, index)
  tag = categories[index % len(categories)]
  return draw_scene(draws, tag, split), draws


def render(scene: Scene, side: int) -> np.ndarray:
  """The picture of a scene, uint8 [side, side, 3]."""
  background = np.asarray(BACKGROUNDS[scene.background], np.float32)
  picture = np.broadcast_to(background, (side, side, 3)).copy()
  for shape in scene.shapes:
    share = coverage(shape.kind, side, shape.x, shape.y, shape.radius)
    colour = np.asarray(COLOURS[shape.colour], np.float32)
    picture += share[..., None] * (colour - picture)
  return np.round(picture).astype(np.uint8)
