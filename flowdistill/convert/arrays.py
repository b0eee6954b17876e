"""Files of named arrays. None of them can carry code that we run."""

import pathlib
from collections.abc import Iterable

import numpy as np
from safetensors import SafetensorError, safe_open

from flowdistill.convert.pickles import read_pickled
from flowdistill.datasets.npz import Choose, read_npz

Arrays = dict[str, np.ndarray]


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


READERS = {
  '.safetensors': _read_safetensors,
  '.npz': read_npz,
  '.pth': read_pickled,
  '.pt': read_pickled,
}
