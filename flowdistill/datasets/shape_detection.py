"""Finds coloured shapes in a picture, of which nothing else is known.

1. The background is the median of the pixels at the border.
2. A region is connected pixels that differ from it by more than half as much as
   any pixel near them. Its colour is the nearest one of most of its pixels that
   differ most. What is no mixture of background and colour is a region of its
   own, so that shapes of two colours may touch.
3. How far each pixel is from the background towards the colour is the share
   that the shape covers. Area and centroid of these shares say how large each
   kind would be, and where; the kind whose drawing there agrees best is it.
"""

import math
from collections.abc import Iterator

import numpy as np
import scipy.ndimage

from flowdistill.datasets.shape_kinds import (
  BACKGROUNDS,
  COLOURS,
  KINDS,
  coverage,
  extent,
  moments,
)
from flowdistill.metrics.geneval import Detection

APART = 45.0  # from the background, in the RGB cube of 0 ... 255
MIXED = 60.0  # from the line of mixtures, beyond which a pixel is none
SMALLEST = 0.012  # share of the picture that a shape covers at least
CORE = 0.8  # of the largest difference of a region
LEAST = 0.6  # agreement, below which it is no shape of a known kind
SMOOTH = 0.02  # width of the filter against noise, in sides of the picture
NEAR = 0.06  # in sides of the picture
NAMES = [*COLOURS, *BACKGROUNDS]
VALUES = np.asarray([*COLOURS.values(), *BACKGROUNDS.values()], np.float32)
AROUND = np.ones((3, 3))


def detect(picture: np.ndarray) -> list[Detection]:
  """The shapes in a picture [h, h, 3] in [-1, 1], the clearest first.

  A picture that is not finite has none.
  """
  if not np.isfinite(picture).all():
    return []
  raw = (np.clip(picture, -1, 1).astype(np.float32) + 1) * 127.5
  background = border_colour(raw)
  smooth = smoothed(raw) - background
  found = [
    each
    for region in regions(smooth)
    for colour, part in by_colour(raw, smooth, background, region)
    if (each := recognise(raw - background, smooth, colour, part)) is not None
  ]
  return sorted(found, key=lambda each: -each.confidence)


def border_colour(pixels: np.ndarray) -> np.ndarray:
  """The median RGB [3] of the pixels at the border."""
  sides = pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]
  return np.median(np.concatenate(sides), axis=0)


def smoothed(pixels: np.ndarray, side: int | None = None) -> np.ndarray:
  """Pixels [h, h, ...] of a picture [side, side] of which noise is reduced."""
  width = SMOOTH * (side or len(pixels))
  return scipy.ndimage.gaussian_filter(pixels, width, axes=(0, 1))


def regions(smooth: np.ndarray) -> Iterator[np.ndarray]:
  """Masks [h, h] of the regions of a picture less its background."""
  differ = np.linalg.norm(smooth, axis=-1)
  window = 2 * round(NEAR * len(differ)) + 1
  highest = scipy.ndimage.maximum_filter(differ, window)
  return parts(differ > np.maximum(APART, highest / 2))


def parts(mask: np.ndarray) -> Iterator[np.ndarray]:
  """The connected parts of a mask that are large enough."""
  labels = np.zeros(mask.shape, np.int32)
  scipy.ndimage.label(mask, AROUND, output=labels)
  for number in range(1, int(labels.max()) + 1):
    if (part := labels == number).mean() >= SMALLEST:
      yield part


def by_colour(
  raw: np.ndarray,
  smooth: np.ndarray,
  background: np.ndarray,
  region: np.ndarray,
) -> Iterator[tuple[int, np.ndarray]]:
  """(number of a colour, mask [h, h]) of all parts of a region."""
  differ = np.linalg.norm(smooth, axis=-1)
  core = raw[region & (differ >= CORE * differ[region].max())]
  nearest = np.linalg.norm(core[:, None] - VALUES, axis=-1).argmin(axis=-1)
  colour = int(np.bincount(nearest).argmax())
  towards = VALUES[colour] - background
  share = np.clip(smooth @ towards / max(float(towards @ towards), 1.0), 0, 1)
  error = np.linalg.norm(smooth - share[..., None] * towards, axis=-1)
  own = region & (error < MIXED)
  yield from ((colour, part) for part in parts(own))
  for part in parts(region & ~own) if own.any() else ():
    yield from by_colour(raw, smooth, background, part)


def recognise(
  raw: np.ndarray, smooth: np.ndarray, colour: int, region: np.ndarray
) -> Detection | None:
  """The shape of a region; None if its colour or its kind is none."""
  if NAMES[colour] not in COLOURS:
    return None
  side = len(region)
  share, left, top = window(covered(raw, smooth, region), region)
  fits = {kind: fit(kind, share, side) for kind in KINDS}
  kind = max(fits, key=lambda name: fits[name][0])
  confidence, x, y, radius = fits[kind]
  if confidence < LEAST:
    return None
  ends = np.reshape(extent(kind), (2, 2)) * radius + [x, y]
  ends = ends * len(share) + [left, top]
  x_low, y_low, x_high, y_high = ends.ravel().tolist()
  box = x_low, y_low, x_high, y_high
  return Detection(kind, NAMES[colour], box, confidence)


def covered(
  raw: np.ndarray, smooth: np.ndarray, region: np.ndarray
) -> np.ndarray:
  """The share of each pixel that a region covers, [h, h] in [0, 1]."""
  differ = np.linalg.norm(smooth, axis=-1)
  core = region & (differ >= CORE * differ[region].max())
  towards = np.median(raw[core], axis=0)
  near = scipy.ndimage.binary_dilation(region, AROUND)
  power = max(float(towards @ towards), 1.0)
  return np.clip(smooth @ towards / power, 0, 1) * near


def window(
  share: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, int, int]:
  """Shares of a square [k, k] about a region, and its left and top."""
  rows, columns = (np.flatnonzero(region.any(axis=a)) for a in (1, 0))
  top, left = int(rows[0]), int(columns[0])
  edge = 2 + math.ceil(NEAR * len(region))
  inner = max(int(rows[-1]) - top, int(columns[-1]) - left) + 1
  padded = np.pad(share, ((edge, edge + inner), (edge, edge + inner)))
  side = inner + 2 * edge
  return padded[top : top + side, left : left + side], left - edge, top - edge


def fit(
  kind: str, share: np.ndarray, side: int
) -> tuple[float, float, float, float]:
  """How well a kind agrees with shares [k, k], and its x, y and radius.

  The agreement is Σ min / Σ max of the shares and those of the kind with their
  area and centroid, 1 if they are equal; the others are in parts of k.

  Args:
    kind: that is tried.
    share: of a part of the picture.
    side: of the whole picture.
  """
  k, total = len(share), float(share.sum())
  area, u, v = moments(kind)
  radius = math.sqrt(total / area) / k
  line = (np.arange(k) + 0.5) / k
  x = float(share.sum(axis=0) @ line) / total - u * radius
  y = float(share.sum(axis=1) @ line) / total - v * radius
  drawn = smoothed(coverage(kind, k, x, y, radius), side)
  low, high = np.minimum(share, drawn), np.maximum(share, drawn)
  return float(low.sum() / high.sum()), x, y, radius
