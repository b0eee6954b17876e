"""1 797 handwritten digits of 8 x 8 pixels, shipped with scikit-learn.

They can be enlarged, by bicubic interpolation.

Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits" (1998),
https://archive.ics.uci.edu/dataset/80, its test set.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from flowdistill.datasets.captioned import Captioned, with_text
from flowdistill.datasets.source import Batch, Source
from flowdistill.datasets.split import split_indices
from flowdistill.datasets.texts import Text
from flowdistill.flow.spec import DataSpec

SIZE = 8
NAMES = tuple('0123456789')
WORDS = ('zero', 'one', 'two', 'three', 'four')
WORDS += ('five', 'six', 'seven', 'eight', 'nine')
BICUBIC = Image.Resampling.BICUBIC


def digits(
  *, size: int = SIZE, split: str = 'all', text: Text | None = None
) -> 'Source | Captioned':
  """Digits [size, size, 1], from -1 (paper) to 1 (ink), in ten classes.

  Args:
    size: side of the square in pixels, a multiple of 8.
    split: 'all', 'train' or 'validation' (see `split.py`).
    text: what makes conditions of the captions, such as 'the digit three' (see
      `texts.py`); None for none, and no captions.

  Raises:
    ValueError: if an option is out of range.
  """
  if size < SIZE or size % SIZE:
    raise ValueError(f'size = {size} must be a positive multiple of 8')
  pixels, target = load_digits(return_X_y=True)
  x0 = np.asarray(pixels / 8 - 1, np.float32).reshape(-1, SIZE, SIZE)
  label = np.asarray(target, np.int32)
  arrays = {'x0': enlarge(x0, size)[..., None], 'label': label}
  spec = DataSpec.labelled((size, size, 1), len(NAMES), NAMES)
  source = Source(spec, arrays)
  source = source.take(split_indices(len(source), split))
  return source if text is None else with_text(Named(source), text)


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
  """Digits with captions."""

  digits: Source

  @property
  def spec(self) -> DataSpec:
    """That of the digits."""
    return self.digits.spec

  @functools.cached_property
  def captions(self) -> list[str]:
    """'the digit three', of each."""
    labels = self.digits.arrays['label']
    return [f'the digit {WORDS[label]}' for label in labels]

  def __len__(self) -> int:
    return len(self.digits)

  def __getitem__(self, index: Any) -> Batch:
    """One digit for an int, a batch of them for an array of ints [b]."""
    return self.digits[index]

  def conditions(self, index: Any) -> Batch:
    """The labels of the digits `index` [b]."""
    return self.digits.conditions(index)


def enlarge(x0: np.ndarray, size: int) -> np.ndarray:
  """[n, 8, 8] -> [n, size, size], clipped to [-1, 1]."""
  if size == SIZE:
    return x0
  images = (Image.fromarray(x).resize((size, size), BICUBIC) for x in x0)
  return np.clip([np.asarray(image) for image in images], -1, 1)
