"""Arrays in shards: files of so many rows, checksummed, whole or not there.

FOLDER/00000.x0.npy holds the first rows of the array `x0`, and so on;
FOLDER/00000.sha256 says what its files must be, as `sha256sum --check` reads
it. It is written last: a shard without it is written again, to the same bytes.
"""

import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Rows = Mapping[str, np.ndarray]


class ArrayFile:
  """A .npy file that is written row by row; it has its name once it is whole.

  Args:
    path: of the file.
    shape: of the whole array.
    dtype: of it.
  """

  def __init__(self, path: pathlib.Path, shape: tuple[int, ...], dtype: Any):
    self.path, self.digest = path, hashlib.sha256()
    self.file = part_of(path).open('wb')
    header = io.BytesIO()
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
      header, {'descr': described, 'fortran_order': False, 'shape': shape}
    )
    self._write(header.getvalue())

  def write(self, rows: np.ndarray) -> None:
    """Appends rows."""
    self._write(rows.tobytes())

  def close(self) -> str:
    """Gives the file its name; returns its line in the list of checksums."""
    finish(self.file, self.path)
    return f'{self.digest.hexdigest()}  {self.path.name}\n'

  def _write(self, data: bytes) -> None:
    self.digest.update(data)
    self.file.write(data)


def write_shard(
  folder: pathlib.Path, number: int, size: int, parts: Iterable[Rows]
) -> None:
  """Writes a shard of `size` rows, which come in parts, in constant memory."""
  files: dict[str, ArrayFile] = {}
  for part in parts:
    for name, rows in part.items():
      if name not in files:
        path = folder / f'{number:05d}.{name}.npy'
        files[name] = ArrayFile(path, (size, *rows.shape[1:]), rows.dtype)
      files[name].write(rows)
  lines = [file.close() for file in files.values()]
  write_whole(list_of(folder, number), ''.join(lines).encode())


def list_of(folder: pathlib.Path, number: int) -> pathlib.Path:
  """The file with the checksums of a shard; it is whole if this is there."""
  return folder / f'{number:05d}.sha256'


def is_whole(folder: pathlib.Path, number: int) -> bool:
  """Whether a shard is there with all its files."""
  return list_of(folder, number).is_file()


def read_shard(folder: pathlib.Path, number: int) -> Rows:
  """The arrays of a shard, name -> [m, ...], which stay on disk.

  Raises:
    ValueError: naming a file that is missing, or is not what was written.
  """
  arrays = {}
  listed = list_of(folder, number)
  if not listed.is_file():
    raise ValueError(f'{listed} is missing: the shard is not whole')
  for line in listed.read_text().splitlines():
    digest, _, name = line.partition('  ')
    path = folder / pathlib.PurePath(name).name
    check_file(path, digest)
    array = path.name.split('.')[1]
    arrays[array] = np.load(path, mmap_mode='r', allow_pickle=False)
  return arrays


def read_array(folder: pathlib.Path, number: int, name: str) -> np.ndarray:
  """An array of a shard, which stays on disk, without a check."""
  path = folder / f'{number:05d}.{name}.npy'
  return np.load(path, mmap_mode='r', allow_pickle=False)


def check_file(path: pathlib.Path, digest: str) -> None:
  """Raises ValueError unless a file has this SHA-256."""
  if not path.is_file():
    raise ValueError(f'{path} is missing')
  with path.open('rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  if found != digest:
    raise ValueError(
      f'{path} is damaged: its sha256 is {found[:12]}..., not that in '
      f'{path.name.split(".")[0]}.sha256; remove both, and make the pairs again'
    )


def write_whole(path: pathlib.Path, data: bytes) -> None:
  """Writes a file that is whole as soon as it has its name."""
  with part_of(path).open('wb') as file:
    file.write(data)
    finish(file, path)


def part_of(path: pathlib.Path) -> pathlib.Path:
  """Where a file is as long as it is not whole."""
  return path.with_name(f'{path.name}.part')


def finish(file: Any, path: pathlib.Path) -> None:
  """Closes what was written, safe against a loss of power, and names it."""
  file.flush()
  os.fsync(file.fileno())
  file.close()
  part_of(path).replace(path)
