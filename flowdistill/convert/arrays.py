"""Files of named arrays. None of them can carry code."""

import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

# A size that a header claims may be more than there is memory.
UNREADABLE = (ValueError, EOFError, MemoryError, zipfile.BadZipFile)


def read_arrays(
  path: pathlib.Path, names: Iterable[str]
) -> dict[str, np.ndarray]:
  """Those of `names` that a .safetensors or .npz file has; it reads no others.

  Raises:
    ValueError: if there is no such file, or it is of another kind.
  """
  if path.suffix not in READERS:
    raise ValueError(
      f'{path} must be a .safetensors or .npz file; a pickle (.pth, .pt, .bin) '
      'can run code and is not read'
    )
  if not path.is_file():
    raise ValueError(f'there is no file {path}')
  return READERS[path.suffix](path, set(names))


def _read_safetensors(
  path: pathlib.Path, names: set[str]
) -> dict[str, np.ndarray]:
  try:
    with safe_open(path, 'numpy') as file:
      return {n: file.get_tensor(n) for n in sorted(names & {*file.keys()})}
  except SafetensorError as error:
    raise ValueError(f'{path} is no .safetensors file: {error}') from error


def _read_npz(path: pathlib.Path, names: set[str]) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {n: _array(file[n]) for n in sorted(names & {*file.files})}
  except UNREADABLE as error:
    raise ValueError(f'{path} is no .npz file: {error}') from error


def _array(found: Any) -> np.ndarray:
  """NumPy gives a member that is no array as its bytes."""
  if not isinstance(found, np.ndarray):
    raise ValueError('a member of it is no array')
  return found


READERS = {'.safetensors': _read_safetensors, '.npz': _read_npz}
