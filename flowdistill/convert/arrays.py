"""Files of named arrays, read so that none of them can execute code."""

import pathlib
import zipfile
from collections.abc import Callable, Iterable

import numpy as np
from safetensors import SafetensorError, safe_open

from flowdistill.convert.pickles import read_pickled

Arrays = dict[str, np.ndarray]
Choose = Callable[[list[str]], Iterable[str]]
# A header may claim a size that exceeds the memory.
UNREADABLE = (ValueError, EOFError, MemoryError, OSError, zipfile.BadZipFile)


def read_arrays(path: pathlib.Path, names: Iterable[str]) -> Arrays:
  """The arrays of a file among `names`; it reads no others.

  Raises:
    ValueError: as `read_chosen`.
  """
  wanted = set(names)
  return read_chosen(path, lambda present: wanted.intersection(present))


def read_chosen(path: pathlib.Path, choose: Choose) -> Arrays:
  """The arrays of a file whose names `choose` selects.

  Args:
    path: of a .safetensors or .npz file, or of PyTorch's .pth or .pt, whose
      pickle is not executed (see `pickles.py`).
    choose: names -> those whose arrays are read.

  Raises:
    ValueError: if there is no such file, or it is of another kind or damaged.
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
      arrays = {n: file[n] for n in sorted(choose([*file.files]))}
  except UNREADABLE as error:
    raise ValueError(f'{path} is no .npz file: {error}') from error
  for name, array in arrays.items():
    if not isinstance(array, np.ndarray):  # NumPy returns the bytes of others
      raise ValueError(f'{path} is no .npz file: {name} is not an array')
  return arrays


READERS = {
  '.safetensors': _read_safetensors,
  '.npz': _read_npz,
  '.pth': read_pickled,
  '.pt': read_pickled,
}
