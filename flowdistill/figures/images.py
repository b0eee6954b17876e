"""Images as PNG files."""

import math
import pathlib

import numpy as np
from PIL import Image

from flowdistill.flow.pixels import to_uint8

GAP = 2  # pixels between the images of a grid
LARGEST = 2**24  # pixels of a grid


def is_images(shape: tuple[int, ...]) -> bool:
  """Whether arrays [n, ...] of a shape are images of one or three channels."""
  return len(shape) == 4 and shape[-1] in (1, 3)


class Grid:
  """Images in one, as square as possible, row by row; of many the first ones.

  Args:
    path: of the PNG.
    n: number of images.
    shape: of an image, [h, w, 1 or 3].
  """

  def __init__(self, path: pathlib.Path, n: int, shape: tuple[int, ...]):
    self.path, self.count = path, 0
    h, w, c = shape
    tile = h + GAP, w + GAP
    self.places = min(n, max(1, LARGEST // math.prod(tile)))
    self.columns = math.ceil(math.sqrt(self.places))
    rows = -(-self.places // self.columns)
    page = (rows * tile[0] - GAP, self.columns * tile[1] - GAP)
    self.page = np.full((*page, 3)[: 2 + (c == 3)], 255, np.uint8)

  def add(self, x: np.ndarray) -> None:
    """Puts the next images [b, h, w, 1 or 3] in [−1, 1] into their places."""
    h, w = x.shape[1:3]
    for image in pixels(x[: self.places - self.count]):
      row, column = divmod(self.count, self.columns)
      top, left = row * (h + GAP), column * (w + GAP)
      self.page[top : top + h, left : left + w] = image
      self.count += 1

  def close(self) -> None:
    """Writes the page."""
    Image.fromarray(self.page).save(self.path)


def pixels(x: np.ndarray) -> np.ndarray:
  """[n, h, w, 1 or 3] in [−1, 1] -> uint8 [n, h, w] or [n, h, w, 3]."""
  rounded = to_uint8(x)
  return rounded[..., 0] if x.shape[-1] == 1 else rounded
