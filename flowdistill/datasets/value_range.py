"""The range of the values of x0, its check, and the scale to [-1, 1].

Values in [0, 1] that are trained as if they were in [-1, 1] give grey images
and a model that is silently wrong. So a range that the values use no more than
half of is refused until it is stated.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from flowdistill.datasets.images import to_unit

Range = tuple[float, float]
AT_ONCE = 2**24  # numbers that are checked at once
BYTES: Range = (0.0, 255.0)
UNIT: Range = (-1.0, 1.0)
USUAL: tuple[Range, ...] = (
  (0.0, 1.0),
  (-0.5, 0.5),
  UNIT,
  BYTES,
  (0.0, 65535.0),
)
"""Ranges that images have, the narrowest first."""
LARGEST = float(np.finfo(np.float32).max)


def checked_range(x0: np.ndarray, stated: Range | None) -> Range | None:
  """The range (low, high) of x0 [n, ...]; None for points without one.

  By default images of uint8 have the range (0, 255), those of floats (-1, 1).

  Args:
    x0: images [n, h, w, c] or [n, h, w], or points [n, d].
    stated: the range that the user states, or None.

  Raises:
    ValueError: if a value is not finite or outside of the range; or, of images
      without a stated range, if all values lie in half of it or less, or they
      are integers other than uint8.
  """
  integers = x0.dtype.kind in 'iub' and x0.dtype != np.uint8
  if stated is None and integers:
    raise ValueError(
      f'x0 = {x0.dtype} {[*x0.shape]} must be uint8 or float, or range must '
      'state the range of its integers, such as range = (0, 255)'
    )
  images = x0.ndim > 2
  default = BYTES if x0.dtype == np.uint8 else UNIT if images else None
  chosen = default if stated is None else stated
  _check_values(x0, chosen, guessed=stated is None and images)
  return chosen


def to_range(x: np.ndarray, chosen: Range | None) -> np.ndarray:
  """Values in [low, high] as float32 in [-1, 1]; None scales nothing."""
  if chosen == BYTES and x.dtype == np.uint8:
    return to_unit(x)
  if chosen is None or chosen == UNIT:
    return x.astype(np.float32)
  low, high = chosen
  x = x.astype(np.float64)  # as x may be far from 0, compared with high - low
  return ((x - low) * (2 / (high - low)) - 1).astype(np.float32)


def stated_range(stated: Sequence[float]) -> Range:
  """(low, high) as floats.

  Raises:
    ValueError: if they are not two finite numbers, low < high, or if they
      differ by too little or too much to be scaled.
  """
  pair = np.asarray(stated)
  if pair.shape == (2,) and pair.dtype.kind in 'uif':
    low, high = float(pair[0]), float(pair[1])
    if 1 / LARGEST < high - low < LARGEST:
      return low, high
  raise ValueError(
    f'range = {stated} must be (low, high), finite, with low < high'
  )


def _check_values(
  x0: np.ndarray, chosen: Range | None, *, guessed: bool
) -> None:
  """Refuses values outside of a range, and a guess that they do not fill."""
  low, high = np.inf, -np.inf
  for block in _blocks(x0):
    ends = float(block.min()), float(block.max())
    if not max(map(abs, ends)) <= LARGEST:  # NaN is not
      raise ValueError('x0 must be finite everywhere, as float32')
    low, high = min(low, ends[0]), max(high, ends[1])
    if chosen and (low < chosen[0] or high > chosen[1]):
      raise ValueError(_outside(low, high, chosen, guessed))
    if x0.dtype == np.uint8 and chosen == BYTES and high - low > 127.5:
      return  # no other byte can change the result
  if guessed and chosen and high - low <= (chosen[1] - chosen[0]) / 2:
    spelt = f'({chosen[0]:g}, {chosen[1]:g})'
    raise ValueError(
      f'x0 has values from {low:g} to {high:g}, which is no more than half of '
      f'the range {spelt} of {x0.dtype} images: set range = '
      f'{_likely(low, high)} if that is their range, which is then scaled to '
      f'[-1, 1], or range = {spelt} if the images are so'
    )


def _outside(low: float, high: float, chosen: Range, guessed: bool) -> str:
  spelt = f'[{chosen[0]:g}, {chosen[1]:g}]'
  given = f'x0 has values from {low:.9g} to {high:.9g}'
  if not guessed:
    return f'{given}, which must lie in {spelt}'
  return (
    f'{given}; images of floats must lie in {spelt}, or range must state their '
    f'range, such as range = {_likely(low, high)}'
  )


def _likely(low: float, high: float) -> str:
  """The narrowest usual range with these values, or else just their own."""
  for first, last in USUAL:
    if first <= low and high <= last:
      return f'({first:g}, {last:g})'
  return f'({low!r}, {high!r})'


def _blocks(x0: np.ndarray) -> Iterator[np.ndarray]:
  rows = max(1, AT_ONCE // x0[0].size)
  for first in range(0, len(x0), rows):
    yield np.asarray(x0[first : first + rows])
