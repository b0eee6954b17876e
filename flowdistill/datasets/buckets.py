"""Aspect-ratio buckets: shapes of about one area, for pictures of any ratio.

The buckets are all (height, width) in multiples of `step` with an area between
`min_area` and 1 of that of the square, and a ratio of at most `max_ratio`; of
those with one ratio, the largest. A picture goes to the bucket whose ratio is
nearest in the logarithm, so that upright pictures and wide ones are treated
alike. With size = 1024 and the defaults they are the 40 of SDXL, and 704 x 1344
on its side, which that table does not have.

Source: NovelAI, "NovelAI Improvements on Stable Diffusion" (2022),
https://blog.novelai.net/novelai-improvements-on-stable-diffusion-e10d38db82ac;
Podell et al., "SDXL" (2023), https://arxiv.org/abs/2307.01952, appendix I.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

Shape = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Buckets:
  """The rule that makes the buckets of a data set.

  Attributes:
    step: of height and width, in pixels; it divides `size`.
    max_ratio: of the longer side to the shorter, at least 1.
    min_area: of a bucket over that of the square, in (0, 1].

  Raises:
    ValueError: if an option is out of range.
  """

  step: int = 64
  max_ratio: float = 4.0
  min_area: float = 0.9

  def __post_init__(self) -> None:
    if self.step < 1:
      raise ValueError(f'step = {self.step} must be at least 1')
    if not 1 <= self.max_ratio < math.inf:
      raise ValueError(f'max_ratio = {self.max_ratio} must be at least 1')
    if not 0 < self.min_area <= 1:
      raise ValueError(f'min_area = {self.min_area} must lie in (0, 1]')

  def shapes(self, size: int) -> list[Shape]:
    """The (height, width) of all buckets, the square first, then by ratio.

    Args:
      size: side of the square, in pixels.

    Raises:
      ValueError: if `step` does not divide it, or no bucket but the square is
        possible.
    """
    if size % self.step:
      below = size // self.step * self.step
      near = [n for n in (below, below + self.step) if n]
      raise ValueError(
        f'buckets.step = {self.step} must divide size = {size}; size may be '
        + ' or '.join(map(str, near))
      )
    largest: dict[float, Shape] = {}
    for shape in sorted(self._all(size // self.step)):
      largest[shape[0] / shape[1]] = shape  # of one ratio, the last
    if len(largest) == 1:
      raise ValueError(
        f'buckets.step = {self.step} must be smaller, or max_ratio = '
        f'{self.max_ratio:g} larger: of size = {size} there is but the square'
      )
    others = [largest[ratio] for ratio in sorted(largest) if ratio != 1]
    return [
      (rows * self.step, columns * self.step)
      for rows, columns in [largest[1], *others]
    ]

  def _all(self, side: int) -> list[Shape]:
    """All shapes in units of `step`, for a square of `side` such units."""
    area, longest = side * side, int(side * math.sqrt(self.max_ratio))
    return [
      (rows, columns)
      for rows in range(1, longest + 1)
      for columns in range(
        math.ceil(self.min_area * area / rows), area // rows + 1
      )
      if max(rows, columns) <= self.max_ratio * min(rows, columns)
    ]


def nearest(shapes: Sequence[Shape], sizes: np.ndarray) -> np.ndarray:
  """The bucket of each picture, int [n]; the first of equally near ones.

  Args:
    shapes: (height, width) of the buckets.
    sizes: (height, width) of the pictures, int [n, 2].
  """
  ours = np.log([height / width for height, width in shapes])
  ratios = np.log(sizes[:, 0] / sizes[:, 1])
  return np.argmin(np.abs(ratios[:, None] - ours), axis=1)


def about(shapes: Sequence[Shape], numbers: np.ndarray) -> str:
  """How many pictures each bucket has, in a line.

  Args:
    shapes: (height, width) of the buckets.
    numbers: the bucket of each picture, int [n].
  """
  counts = np.bincount(numbers, minlength=len(shapes))
  return 'buckets, of height x width: ' + ', '.join(
    f'{height} x {width} has {count:,}'
    for (height, width), count in zip(shapes, counts, strict=True)
    if count
  )
