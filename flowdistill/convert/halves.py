"""Shift and scale in the other order.

The original networks have a shift and a scale where diffusers has a scale and a
shift, along the first axis of one array.
"""

import numpy as np


def swapped(array: np.ndarray) -> np.ndarray:
  """Both halves of the first axis in the other order.

  An array without them is as it was: the rules say that its shape is wrong.
  """
  if not array.ndim or len(array) % 2:
    return array
  return np.concatenate(np.split(array, 2)[::-1])
