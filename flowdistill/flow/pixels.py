"""The rule by which images of a network become those of a file."""

import numpy as np


def to_uint8(x: np.ndarray) -> np.ndarray:
  """[...] in [−1, 1] -> uint8: round((x + 1) · 127.5), clipped to [0, 255]."""
  return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)
