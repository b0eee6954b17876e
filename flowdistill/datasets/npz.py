"""NumPy files, .npz and .npy, read without pickle, so that no code is run."""

import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# MemoryError: a header may claim more bytes than there are.
UNREADABLE = (ValueError, EOFError, MemoryError, OSError, zipfile.BadZipFile)

Choose = Callable[[list[str]], Iterable[str]]


def read_npz(path: pathlib.Path, choose: Choose) -> dict[str, np.ndarray]:
  """The arrays of an .npz whose names `choose` returns.

  Raises:
    ValueError: if it is not an .npz file, or one of them is not an array.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      return {n: _checked(file[n]) for n in sorted(choose([*file.files]))}
  except UNREADABLE as error:
    raise ValueError(f'{path} is not an .npz file: {error}') from error


def map_npy(path: pathlib.Path) -> np.ndarray:
  """The array of an .npy, memory-mapped, read-only.

  Raises:
    ValueError: if it is not an .npy file, or contains Python objects.
  """
  try:
    return np.lib.format.open_memmap(path, mode='r')
  except UNREADABLE as error:
    raise ValueError(f'{path} is not an .npy file: {error}') from error


def _checked(member: Any) -> np.ndarray:
  """Refuses a member that is not an array, which NumPy returns as bytes."""
  if not isinstance(member, np.ndarray):
    raise ValueError('a member of it is not an array')
  return member
