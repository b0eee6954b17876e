"""NumPy files, .npz and .npy, read without pickle, so that no code is run."""

import contextlib
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np

# MemoryError: a header may claim more bytes than there are.
UNREADABLE = (
  ValueError,
  EOFError,
  LookupError,
  MemoryError,
  OSError,
  RuntimeError,  # encrypted, or of an unknown compression
  SyntaxError,  # a header that is no Python
  TypeError,
  tokenize.TokenError,  # a header that is not closed
  zipfile.BadZipFile,
  zlib.error,
)

Choose = Callable[[list[str]], Iterable[str]]


def read_npz(path: pathlib.Path, choose: Choose) -> dict[str, np.ndarray]:
  """The arrays of an .npz whose names `choose` returns.

  Raises:
    ValueError: if it is not an .npz file, or one of them is not an array; and
      what `choose` raises.
  """
  with _named(path, 'npz'):
    file = np.load(path, allow_pickle=False)
    if not isinstance(file, np.lib.npyio.NpzFile):
      raise ValueError('it is one array, an .npy file')
  with file:
    names = sorted(choose([*file.files]))
    with _named(path, 'npz'):
      return {name: _checked(file[name]) for name in names}


def map_npy(path: pathlib.Path) -> np.ndarray:
  """The array of an .npy, memory-mapped, read-only.

  Raises:
    ValueError: if it is not an .npy file, or contains Python objects.
  """
  with _named(path, 'npy'):
    return np.lib.format.open_memmap(path, mode='r')


@contextlib.contextmanager
def _named(path: pathlib.Path, kind: str) -> Generator[None]:
  """Names the file in any error that NumPy raises for a damaged one."""
  try:
    yield
  except UNREADABLE as error:
    raise ValueError(f'{path} is not an .{kind} file: {error}') from error


def _checked(member: Any) -> np.ndarray:
  """Refuses a member that is not an array, which NumPy returns as bytes."""
  if not isinstance(member, np.ndarray):
    raise ValueError('a member of it is not an array')
  return member
