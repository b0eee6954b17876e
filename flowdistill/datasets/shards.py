"""Arrays in shards: files of a fixed number of rows, checksummed and atomic.

FOLDER/00000.x0.npy holds the first rows of the array `x0`, and so on;
FOLDER/00000.sha256 holds the checksums of its files, as `sha256sum --check`
reads them. It is written last: a shard without it is incomplete, and is written
again, to the same bytes.
"""

import functools
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from flowdistill.files.atomic import create, sync_folder, write_atomically
from flowdistill.files.json_reader import signed
from flowdistill.files.npz import map_npy
from flowdistill.files.regular import read_regular

MANIFEST = 'manifest.json'  # of a folder of shards
Arrays = Mapping[str, np.ndarray]
LINE = re.compile(rb'([0-9a-f]{64})  (\d{5,}\.([^/]+)\.npy)')


class ArrayFile:
  """An .npy file that is written row by row, and renamed when complete.

  Args:
    path: of the complete file.
    shape: of the whole array.
    dtype: of the array.
  """

  def __init__(self, path: pathlib.Path, shape: tuple[int, ...], dtype: Any):
    self.path, self.digest = path, hashlib.sha256()
    self.rows, self.written = shape[0], 0
    self.file = create(part_of(path))
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
      header, {'descr': descr, 'fortran_order': False, 'shape': shape}
    )
    self._write(header.getvalue())

  def write(self, rows: np.ndarray) -> None:
    """Appends rows."""
    self.written += len(rows)
    self._write(rows.tobytes())

  def close(self) -> str:
    """Renames the complete file; returns its line in the checksum file.

    Raises:
      ValueError: if it has another number of rows.
    """
    if self.written != self.rows:
      raise ValueError(
        f'{self.path} got {self.written} rows and must have {self.rows}'
      )
    finish(self.file, self.path)
    return f'{self.digest.hexdigest()}  {self.path.name}\n'

  def _write(self, data: bytes) -> None:
    self.digest.update(data)
    self.file.write(data)


class Rows:
  """Rows of shards by index, with random access; read when indexed.

  Args:
    sizes: of the shards, in order.
    load: number of a shard -> its arrays [m, ...].
  """

  def __init__(self, sizes: Sequence[int], load: Callable[[int], Arrays]):
    self.ends = np.cumsum(sizes)
    self.starts = self.ends - sizes
    self._load = functools.cache(load)

  def __len__(self) -> int:
    return int(self.ends[-1])

  def take(
    self, index: Any, names: Sequence[str] | None = None
  ) -> dict[str, np.ndarray]:
    """One row of each array for an int, rows for an array of ints [b].

    Args:
      index: of the rows.
      names: of the arrays; None is all.
    """
    index = np.asarray(index)
    flat = index.reshape(-1)
    shards = np.searchsorted(self.ends, flat, side='right')
    batch: dict[str, np.ndarray] = {}
    for shard in np.unique(shards).tolist():
      here, arrays = shards == shard, self._load(shard)
      for name in arrays if names is None else names:
        array = arrays[name]
        rows = np.empty((len(flat), *array.shape[1:]), array.dtype)
        batch.setdefault(name, rows)[here] = array[
          flat[here] - self.starts[shard]
        ]
    return {k: a.reshape(index.shape + a.shape[1:]) for k, a in batch.items()}


def sizes_of(count: int, shard_size: int) -> list[int]:
  """How many rows each shard has."""
  starts = range(0, count, shard_size)
  return [min(shard_size, count - start) for start in starts]


def write_manifest(folder: pathlib.Path, manifest: Mapping[str, Any]) -> None:
  """Writes what shards hold, or are going to hold."""
  text = json.dumps(manifest, indent=2, allow_nan=False)
  write_atomically(folder / MANIFEST, signed(text))


def write_shard(
  folder: pathlib.Path,
  number: int,
  size: int,
  parts: Iterable[Arrays],
  ragged: Mapping[str, int] = MappingProxyType({}),
) -> None:
  """Writes a shard of `size` rows, given in parts, in constant memory.

  Args:
    folder: of the shards.
    number: of the shard.
    size: rows of its arrays.
    parts: the rows.
    ragged: name -> rows of arrays that have another number.

  Raises:
    ValueError: if there are other rows.
  """
  files: dict[str, ArrayFile] = {}
  for part in parts:
    for name, rows in part.items():
      if name not in files:
        path = folder / f'{number:05d}.{name}.npy'
        shape = (ragged.get(name, size), *rows.shape[1:])
        files[name] = ArrayFile(path, shape, rows.dtype)
      files[name].write(rows)
  lines = [file.close() for file in files.values()]
  write_whole(checksums_of(folder, number), ''.join(lines).encode())


def checksums_of(folder: pathlib.Path, number: int) -> pathlib.Path:
  """The checksum file of a shard; it exists once the shard is complete."""
  return folder / f'{number:05d}.sha256'


def is_whole(folder: pathlib.Path, number: int) -> bool:
  """Whether a shard is complete."""
  return checksums_of(folder, number).is_file()


def read_shard(
  folder: pathlib.Path,
  number: int,
  *,
  names: Collection[str] | None = None,
  verify: bool = True,
) -> Arrays:
  """The arrays of a shard, name -> [m, ...], memory-mapped.

  Args:
    folder: of the shards.
    number: of the shard.
    names: of the arrays that are read, if they are there; None is all.
    verify: whether checksums are compared.

  Raises:
    ValueError: naming a file that is missing or damaged; without `verify` it is
      damaged if it is too short.
  """
  arrays = {}
  checksums = checksums_of(folder, number)
  if not checksums.is_file():
    raise ValueError(f'{checksums} is missing: the shard is incomplete')
  for line in read_regular(checksums).splitlines():
    if (found := LINE.fullmatch(line)) is None:
      raise ValueError(f'{checksums} is damaged: it has the line {line!r:.90}')
    digest, name, array = (os.fsdecode(text) for text in found.groups())
    if names is not None and array not in names:
      continue
    check_file(folder / name, digest if verify else None)
    arrays[array] = map_npy(folder / name)
  return arrays


def read_array(folder: pathlib.Path, number: int, name: str) -> np.ndarray:
  """An array of a shard, memory-mapped, without verifying its checksum."""
  path = folder / f'{number:05d}.{name}.npy'
  return np.load(path, mmap_mode='r', allow_pickle=False)


def check_file(path: pathlib.Path, digest: str | None) -> None:
  """Raises ValueError unless a file has the given SHA-256, None for any."""
  if not path.is_file():
    whole = path.with_name(f'{path.name.partition(".")[0]}.sha256')
    raise ValueError(
      f'{path} is missing: remove {whole} and make the shard again by the same '
      'job'
    )
  if digest is None:
    return
  with path.open('rb') as file:
    actual = hashlib.file_digest(file, 'sha256').hexdigest()
  if actual != digest:
    raise ValueError(
      f'{path} is damaged: its sha256 {actual[:12]}... is not the one in '
      f'{path.name.split(".")[0]}.sha256; remove both, and make the shard '
      'again by the same job'
    )


def digest_of_rows(rows: Iterable[bytes]) -> str:
  """The SHA-256 of bytes, one after the other."""
  found = hashlib.sha256()
  for row in rows:
    found.update(row)
  return found.hexdigest()


def write_whole(path: pathlib.Path, data: bytes) -> None:
  """Writes a file atomically: it has its name once it is complete."""
  with create(part_of(path)) as file:
    file.write(data)
    finish(file, path)


def part_of(path: pathlib.Path) -> pathlib.Path:
  """The path of a file while it is incomplete."""
  return path.with_name(f'{path.name}.part')


def finish(file: Any, path: pathlib.Path) -> None:
  """Syncs and closes an incomplete file, and renames it to `path`."""
  file.flush()
  os.fsync(file.fileno())
  file.close()
  part_of(path).replace(path)
  sync_folder(path.parent)
