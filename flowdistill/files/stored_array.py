"""An array too large for a record of JSON: its file, and the file's hash."""

import dataclasses
import functools
import hashlib
import io
import pathlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class StoredArray:
  """An array in an .npy file, which stands for it in a record.

  Attributes:
    path: of the file, which is read when the value is first needed.
    sha256: of the file.
  """

  path: str
  sha256: str

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """The array, [*shape].

    Raises:
      ValueError: if the file is missing, or another one.
    """
    del copy
    return _read(self.path, self.sha256).astype(dtype)


@functools.lru_cache(maxsize=8)
def _read(path: str, sha256: str) -> np.ndarray:
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(
      f'{path}, which a record names, cannot be read: {error}'
    ) from error
  if hashlib.sha256(data).hexdigest() != sha256:
    raise ValueError(f'{path} has been changed since it was recorded')
  return np.load(io.BytesIO(data), allow_pickle=False)
