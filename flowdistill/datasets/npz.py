"""NumPy's files, .npz and .npy, read without pickle: none can carry code."""

import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# A size that a header claims may be more than there is memory.
UNREADABLE = (ValueError, EOFError, MemoryError, OSError, zipfile.BadZipFile)

Choose = Callable[[list[str]], Iterable[str]]


def read_npz(path: pathlib.Path, choose: Choose) -> dict[str, np.ndarray]:
  """The arrays that `choose` picks of the names in an .npz.

  Raises:
    ValueError: if it is none, or one of them is no array.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      return {n: _array(file[n]) for n in sorted(choose([*file.files]))}
  except UNREADABLE as error:
    raise ValueError(f'{path} is no .npz file: {error}') from error


def map_npy(path: pathlib.Path) -> np.ndarray:
  """The array of an .npy, read-only, of which only what is used is read.

  Raises:
    ValueError: if it is none, or has Python's objects in it.
  """
  try:
    return np.lib.format.open_memmap(path, mode='r')
  except UNREADABLE as error:
    raise ValueError(f'{path} is no .npy file: {error}') from error


def _array(found: Any) -> np.ndarray:
  """NumPy gives a member that is no array as its bytes."""
  if not isinstance(found, np.ndarray):
    raise ValueError('a member of it is no array')
  return found
