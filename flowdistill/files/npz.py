"""NumPy files, .npz and .npy, read without pickle, so that no code is run."""

import contextlib
import lzma
import pathlib
import struct
import textwrap
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np

# MemoryError: a header may claim more bytes than there are.
UNREADABLE = (
  ValueError,
  EOFError,
  LookupError,
  MemoryError,
  OSError,
  OverflowError,  # lengths that are negative or larger than any memory
  RuntimeError,  # encrypted, or of an unknown compression
  SyntaxError,  # a header that is no Python
  TypeError,
  lzma.LZMAError,
  struct.error,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
)
LONGEST = 200  # letters of a reason
NPY, NPZ = b'\x93NUMPY', b'PK'  # first bytes

Choose = Callable[[list[str]], Iterable[str]]


def read_npz(path: pathlib.Path, choose: Choose) -> dict[str, np.ndarray]:
  """The arrays of an .npz whose names `choose` returns.

  Raises:
    ValueError: if it is not an .npz file, or one of them is not an array, is
      there twice, or is shorter than its member; and what `choose` raises.
  """
  with _named(path, 'npz'):
    _check_start(path, NPZ)
    file = zipfile.ZipFile(path)
  with file:
    members = [m for m in file.infolist() if m.filename[-1:] not in ('', '/')]
    names = [member.filename.removesuffix('.npy') for member in members]
    wanted = sorted(choose([*dict.fromkeys(names)]))
    found: dict[str, np.ndarray] = {}
    for name in wanted:
      with _named(path, 'npz', f'{name}: '):
        if names.count(name) > 1:
          raise ValueError('there is more than one array of this name')
        found[name] = _read_member(file, members[names.index(name)])
  return found


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays, uncompressed; equal arrays give equal bytes."""
  named: dict[str, Any] = dict(arrays)
  np.savez(file, **named)


def map_npy(path: pathlib.Path) -> np.ndarray:
  """The array of an .npy, memory-mapped, read-only.

  Raises:
    ValueError: if it is not an .npy file, has bytes after its array, or
      contains Python objects.
  """
  with _named(path, 'npy'):
    _check_start(path, NPY)
    array = np.lib.format.open_memmap(path, mode='r')
    _check_end(path.stat().st_size - array.offset - array.nbytes)
    return array


@contextlib.contextmanager
def _named(path: pathlib.Path, kind: str, name: str = '') -> Generator[None]:
  """Names the file in any error that NumPy raises for a damaged one."""
  try:
    yield
  except UNREADABLE as error:
    reason = textwrap.shorten(f'{name}{error}', LONGEST)
    raise ValueError(f'{path} is not an .{kind} file: {reason}') from error


def _check_start(path: pathlib.Path, right: bytes) -> None:
  with path.open('rb') as file:
    start = file.read(len(NPY))
  if not start:
    raise ValueError('it is empty')
  if start.startswith(right):
    return
  for other, kind in ((NPY, 'one array, an .npy'), (NPZ, 'an .npz, or a .zip')):
    if start.startswith(other):
      raise ValueError(f'it is {kind} file')
  raise ValueError(f'it begins with {start!r} and not with {right!r}')


def _check_end(left: int) -> None:
  """Refuses bytes that no header speaks of: rows may be among them."""
  if left:
    raise ValueError('the header says fewer bytes than there are')


def _read_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
  with file.open(info) as member, np.errstate(all='ignore'):
    array = np.lib.format.read_array(member, allow_pickle=False)
    _check_end(len(member.read(1)))  # which compares the checksum, too
    return array
