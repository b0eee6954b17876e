"""Images as PNG files."""

import math
import pathlib

import numpy as np
from PIL import Image

GAP = 2  # pixels between the images of a grid


def is_images(shape: tuple[int, ...]) -> bool:
  """Whether arrays [n, ...] of a shape are images of one or three channels."""
  return len(shape) == 4 and shape[-1] in (1, 3)


def write_images(folder: pathlib.Path, x: np.ndarray) -> None:
  """Images [n, h, w, 1 or 3] in [−1, 1] as 00000.png, ..."""
  for i, image in enumerate(pixels(x)):
    Image.fromarray(image).save(folder / f'{i:05d}.png')


def write_grid(path: pathlib.Path, x: np.ndarray) -> None:
  """All images in one, as square as possible, row by row."""
  n, h, w, c = x.shape
  columns = math.ceil(math.sqrt(n))
  rows = -(-n // columns)
  spare = rows * columns - n
  padding = ((0, spare), (0, GAP), (0, GAP), (0, 0))
  tiles = np.pad(x, padding, constant_values=1)
  tiles = tiles.reshape(rows, columns, h + GAP, w + GAP, c)
  page = tiles.swapaxes(1, 2).reshape(rows * (h + GAP), columns * (w + GAP), c)
  (image,) = pixels(page[None, :-GAP, :-GAP])
  Image.fromarray(image).save(path)


def pixels(x: np.ndarray) -> np.ndarray:
  """[n, h, w, 1 or 3] in [−1, 1] -> uint8 [n, h, w] or [n, h, w, 3]."""
  rounded = np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)
  return rounded[..., 0] if x.shape[-1] == 1 else rounded
