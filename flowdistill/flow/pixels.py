"""The rule by which images of a network become those of a file."""

import hashlib

import numpy as np

RULE = 'round((x + 1) * 127.5)'  # in rows of figures


def to_uint8(x: np.ndarray) -> np.ndarray:
  """[...] in [−1, 1] -> uint8: round((x + 1) · 127.5), clipped to [0, 255]."""
  return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


class Digest:
  """The SHA-256 of n examples: of their number, shape and values, in order.

  Images are hashed as uint8, so that those of a file and those of a data set
  are equal if their pixels are.

  Args:
    n: number of examples.
    shape: of an example.
  """

  def __init__(self, n: int, shape: tuple[int, ...]):
    self._found = hashlib.sha256(repr((n, *shape)).encode())
    self._is_image = len(shape) == 3 and shape[-1] in (1, 3)

  def update(self, x: np.ndarray) -> None:
    """Adds examples [b, *shape], as float32 or uint8."""
    if self._is_image and x.dtype != np.uint8:
      x = to_uint8(x)
    self._found.update(np.ascontiguousarray(x).data)

  def __str__(self) -> str:
    return self._found.hexdigest()
