"""1 797 handwritten digits of 8 x 8 pixels, shipped with scikit-learn.

They can be made larger, by cubic interpolation between the pixels.

Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits" (1998),
https://archive.ics.uci.edu/dataset/80; the test part of it.
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from flowdistill.datasets.source import Source
from flowdistill.datasets.split import indices

SIZE = 8
BICUBIC = Image.Resampling.BICUBIC


def digits(*, size: int = SIZE, split: str = 'all') -> Source:
  """Digits [size, size, 1] in [-1, 1], -1 is paper and 1 is ink; ten classes.

  Args:
    size: of the square, a multiple of 8.
    split: 'all', 'train' or 'validation' (see `split.py`).

  Raises:
    ValueError: if an option is out of range.
  """
  if size < SIZE or size % SIZE:
    raise ValueError(f'size = {size} must be 8 or a multiple of it')
  pixels, target = load_digits(return_X_y=True)
  x0 = np.asarray(pixels / 8 - 1, np.float32).reshape(-1, SIZE, SIZE)
  label = np.asarray(target, np.int32)
  arrays = {'x0': enlarge(x0, size)[..., None], 'label': label}
  source = Source((size, size, 1), 10, arrays)
  return source.take(indices(len(source), split))


def enlarge(x0: np.ndarray, size: int) -> np.ndarray:
  """[n, 8, 8] -> [n, size, size], what overshoots is clipped to [-1, 1]."""
  if size == SIZE:
    return x0
  images = (Image.fromarray(x).resize((size, size), BICUBIC) for x in x0)
  return np.clip([np.asarray(image) for image in images], -1, 1)
