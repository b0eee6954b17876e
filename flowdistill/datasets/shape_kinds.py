"""What there is in pictures of shapes: kinds, colours and backgrounds.

A kind is a set of points (u, v) of the plane with u to the right and v
downwards, about the disc of radius 1. It is never rotated.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]
REACH = 1.17  # no point of a kind is farther from (0, 0)
SUBPIXELS = 4  # along a side of a pixel
POINT, NOTCH = 1.1, 0.5  # radii of a star


def circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """The unit disc."""
  return u * u + v * v < 1


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Of side 1.64."""
  return np.maximum(np.abs(u), np.abs(v)) < 0.82


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Isosceles, with its tip above."""
  return (v < 0.65) & (np.abs(u) < (v + 1.05) * 0.57)


def star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Of five points, one of them above."""
  step = math.pi / 5  # from a point to a notch
  angle = np.arctan2(u, -v) % (2 * step)
  angle = np.minimum(angle, 2 * step - angle)
  r = np.hypot(u, v)
  x, y = r * np.cos(angle), r * np.sin(angle)
  across, along = NOTCH * math.sin(step), POINT - NOTCH * math.cos(step)
  return (POINT - x) * across > y * along


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Of two bars, like +."""
  long = np.maximum(np.abs(u), np.abs(v))
  return (np.minimum(np.abs(u), np.abs(v)) < 0.34) & (long < 1)


def ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """The unit disc with a hole."""
  square = u * u + v * v
  return (square < 1) & (square > 0.5**2)


def diamond(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """A rhombus that stands on its tip, higher than wide."""
  return np.abs(u) / 0.8 + np.abs(v) / 1.1 < 1


def heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """(x² + y² − 1)³ < x² y³."""
  x, y = u * 1.15, 0.15 - v * 1.15
  return (x * x + y * y - 1) ** 3 < x * x * y**3


KINDS: dict[str, Inside] = {
  'circle': circle,
  'square': square,
  'triangle': triangle,
  'star': star,
  'cross': cross,
  'ring': ring,
  'diamond': diamond,
  'heart': heart,
}
"""Name of a kind -> whether points lie in it. The order is that of numbers."""

COLOURS: dict[str, tuple[int, int, int]] = {
  'red': (220, 20, 30),
  'orange': (255, 130, 0),
  'yellow': (255, 235, 40),
  'green': (20, 150, 50),
  'blue': (30, 80, 230),
  'purple': (130, 40, 170),
  'pink': (255, 130, 195),
  'brown': (120, 65, 25),
}
"""Of shapes, RGB in 0 ... 255. The order is that of their numbers."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
  'white': (255, 255, 255),
  'grey': (150, 150, 150),
  'black': (0, 0, 0),
}


def coverage(
  kind: str, side: int, x: float, y: float, radius: float
) -> np.ndarray:
  """The share of every pixel that a shape covers, float32 [side, side].

  Args:
    kind: of the shape.
    side: of the picture in pixels.
    x: of its centre, in sides of the picture from the left.
    y: the same from above.
    radius: in sides of the picture.
  """
  covered = np.zeros((side, side), np.float32)
  rows, v = _lines(side, y, radius)
  columns, u = _lines(side, x, radius)
  inside = KINDS[kind](u[None, :], v[:, None])
  counts = inside.reshape(len(v) // SUBPIXELS, SUBPIXELS, -1, SUBPIXELS)
  covered[rows, columns] = counts.mean((1, 3), dtype=np.float32)
  return covered


def _lines(side: int, centre: float, radius: float) -> tuple[slice, np.ndarray]:
  """The pixels that a shape may touch, and where their parts are in it."""
  ends = (math.floor((centre + s * REACH * radius) * side) for s in (-1, 1))
  low, high = (min(max(end, 0), side - 1) for end in ends)
  parts = np.arange(low * SUBPIXELS, (high + 1) * SUBPIXELS) + 0.5
  place = (parts / (SUBPIXELS * side) - centre) / radius
  return slice(low, high + 1), place


@functools.cache
def extent(kind: str) -> tuple[float, float, float, float]:
  """The box of a kind: least u, least v, most u, most v."""
  line = np.linspace(-REACH, REACH, 1001)
  v, u = np.nonzero(KINDS[kind](line[None, :], line[:, None]))
  least_u, least_v, most_u, most_v = line[[u.min(), v.min(), u.max(), v.max()]]
  return float(least_u), float(least_v), float(most_u), float(most_v)


@functools.cache
def moments(kind: str) -> tuple[float, float, float]:
  """Area of a kind, and u and v of its centroid."""
  line = np.linspace(-REACH, REACH, 1001)
  inside = KINDS[kind](line[None, :], line[:, None])
  v, u = np.nonzero(inside)
  area = inside.mean() * (2 * REACH) ** 2
  return float(area), float(line[u].mean()), float(line[v].mean())
