"""Files of named arrays. None of them can carry code that we run."""

import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from flowdistill.convert.pickles import read_pickled

# A size that a header claims may be more than there is memory.
UNREADABLE = (ValueError, EOFError, MemoryError, zipfile.BadZipFile)

Arrays = dict[str, np.ndarray]
Choose = Callable[[list[str]], Iterable[str]]


def read_arrays(path: pathlib.Path, names: Iterable[str]) -> Arrays:
  """Those of `names` that a file has; it reads no others.

  Raises:
    ValueError: as `read_chosen`.
  """
  wanted = set(names)
  return read_chosen(path, lambda found: wanted.intersection(found))


def read_chosen(path: pathlib.Path, choose: Choose) -> Arrays:
  """The arrays that `choose` picks of the names in a file.

  Args:
    path: of a .safetensors or .npz file, or of one of PyTorch, .pth or .pt,
      whose pickle is not run (see `pickles.py`).
    choose: names -> those whose arrays are read.

  Raises:
    ValueError: if there is no such file, or it is of another kind.
  """
  if path.suffix not in READERS:
    kinds = ', '.join(READERS)
    raise ValueError(f'{path} must be a file of one of the kinds {kinds}')
  if not path.is_file():
    raise ValueError(f'there is no file {path}')
  return READERS[path.suffix](path, choose)


def _read_safetensors(path: pathlib.Path, choose: Choose) -> Arrays:
  try:
    with safe_open(path, 'numpy') as file:
      return {n: file.get_tensor(n) for n in sorted(choose([*file.keys()]))}
  except SafetensorError as error:
    raise ValueError(f'{path} is no .safetensors file: {error}') from error


def _read_npz(path: pathlib.Path, choose: Choose) -> Arrays:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {n: _array(file[n]) for n in sorted(choose([*file.files]))}
  except UNREADABLE as error:
    raise ValueError(f'{path} is no .npz file: {error}') from error


def _array(found: Any) -> np.ndarray:
  """NumPy gives a member that is no array as its bytes."""
  if not isinstance(found, np.ndarray):
    raise ValueError('a member of it is no array')
  return found


READERS = {
  '.safetensors': _read_safetensors,
  '.npz': _read_npz,
  '.pth': read_pickled,
  '.pt': read_pickled,
}
