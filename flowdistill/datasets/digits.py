"""1 797 handwritten digits of 8 x 8 pixels, shipped with scikit-learn.

Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits" (1998),
https://archive.ics.uci.edu/dataset/80; the test part of it.
"""

import numpy as np
from sklearn.datasets import load_digits

from flowdistill.datasets.source import Source
from flowdistill.datasets.split import indices


def digits(*, split: str = 'all') -> Source:
  """Digits [8, 8, 1] in [-1, 1], -1 is paper and 1 is ink; ten classes.

  Args:
    split: 'all', 'train' or 'validation' (see `split.py`).
  """
  pixels, target = load_digits(return_X_y=True)
  x0 = np.asarray(pixels / 8 - 1, np.float32).reshape(-1, 8, 8, 1)
  label = np.asarray(target, np.int32)
  source = Source((8, 8, 1), 10, {'x0': x0, 'label': label})
  return source.take(indices(len(source), split))
