"""Reads the arrays in PyTorch's files without executing code in them.

Since PyTorch 1.6 such a file is a zip archive of raw storages and of data.pkl,
which describes the tensors in them. Before (and by
`_use_new_zipfile_serialization=False`) it is a sequence of five pickles, a
magic number, a version, facts of the system, the tensors and the keys of the
storages, and then the storages, each after its size. `opcodes.py` interprets
the pickles.

No more bytes are read than the file has, and arrays are views of them.

Source: `torch.serialization` of PyTorch 2.13.
"""

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np

from flowdistill.convert.modules import Made, made
from flowdistill.convert.opcodes import LONGEST, interpret
from flowdistill.convert.pickle_machine import Table
from flowdistill.convert.tensors import (
  Storage,
  item_size,
  storage_of,
  tensors_of,
  view,
)

Arrays = dict[str, np.ndarray]
Choose = Callable[[list[str]], Iterable[str]]
Inform = Callable[[Mapping[str, Made]], None]
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def read_zipped(
  archive: zipfile.ZipFile,
  size: int,
  choose: Choose,
  inform: Inform | None = None,
) -> Arrays:
  """The arrays in a zip archive of PyTorch whose names `choose` selects.

  Nested arrays have names such as 'ema.shadow_params.0'.

  Args:
    archive: the file.
    size: of the file in bytes; no more are read of its storages.
    choose: names -> those that are read.
    inform: is given how modules of persistent classes were made, by their keys.

  Raises:
    ValueError: naming what is wrong; or what `zipfile` raises.
  """
  root, left = _root(archive), size
  pickled = _stored(archive, f'{root}data.pkl')
  if len(pickled) > LONGEST:
    raise ValueError(f'its pickle has more than {LONGEST} bytes')

  def read(storage: Storage) -> bytes:
    nonlocal left
    data = _stored(archive, f'{root}data/{storage.key}')
    left -= len(data)
    if left < 0:
      raise ValueError('its entries overlap')
    return data

  tree = interpret(io.BytesIO(pickled), storage_of)
  return views(tree, choose, read, inform)


def read_legacy(
  file: BinaryIO, choose: Choose, inform: Inform | None = None
) -> Arrays:
  """The same of a file of PyTorch before 1.6.

  Raises:
    ValueError: naming what is wrong.
  """
  head = io.BytesIO(file.read(LONGEST))
  tree, keys, roots = read_head(head)
  file.seek(head.tell())
  places = _places(file, keys, roots)

  def read(storage: Storage) -> bytes:
    if storage.key not in places:
      raise ValueError(f'it has no storage {storage.key}')
    start, size = places[storage.key]
    file.seek(start)
    return file.read(size)

  return views(tree, choose, read, inform)


def read_head(head: io.BytesIO) -> tuple[Any, list[str], dict[str, Storage]]:
  """What stands before the storages of a file of PyTorch before 1.6.

  Returns:
    the tree of tensors, the keys of the storages in their order, and the
    storages by their keys; the file is moved to the first one.

  Raises:
    ValueError: naming what is wrong.
  """
  roots = dict[str, Storage]()

  def outside(key: Any) -> Storage:
    storage = storage_of(key)
    roots[storage.key] = storage._replace(first=0, size=key[4])
    return storage

  if interpret(head) != MAGIC or interpret(head) != VERSION:
    raise ValueError(f'its version of the format is not {VERSION}')
  _check_order(interpret(head))
  tree, keys = interpret(head, outside), interpret(head)
  if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
    raise ValueError('it has no list of its storages')
  return tree, keys, roots


def is_legacy(head: bytes) -> bool:
  """Whether a file that begins so is one of PyTorch before 1.6."""
  try:
    return interpret(io.BytesIO(head)) == MAGIC
  except ValueError:
    return False


def views(
  tree: Any,
  choose: Choose,
  read: Callable[[Storage], bytes],
  inform: Inform | None,
) -> Arrays:
  """The chosen arrays of an interpreted pickle; each storage is read once."""
  if inform:
    inform(made(tree))
  tensors, cache = tensors_of(tree), dict[str, bytes]()

  def cached(storage: Storage) -> bytes:
    if storage.key not in cache:
      cache[storage.key] = read(storage)
    return cache[storage.key]

  def array(name: str) -> np.ndarray:
    try:
      return view(tensors[name], cached)
    except ValueError as error:
      raise ValueError(f'{name} {error}') from error

  return {name: array(name) for name in choose(list(tensors))}


def _root(archive: zipfile.ZipFile) -> str:
  """'archive/' of 'archive/data.pkl', after a check of the byte order.

  Raises:
    ValueError: if there is not one pickle, or numbers are not little-endian.
  """
  names = archive.namelist()
  pickled = [n for n in names if f'/{n}'.endswith('/data.pkl')]
  if len(pickled) != 1 or len(set(names)) < len(names):
    raise ValueError('it has several data.pkl, or two entries of one name')
  root = pickled[0].removesuffix('data.pkl')
  if f'{root}constants.pkl' in names:
    raise ValueError(
      'it is a TorchScript archive, of torch.jit.save, which is code; save the '
      'state dict by torch.save'
    )
  order = f'{root}byteorder'
  if order in names and _stored(archive, order) != b'little':
    raise ValueError('its numbers are not little-endian')
  return root


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
  """An entry, which must not be compressed: it could expand to any size."""
  try:
    entry = archive.getinfo(name)
  except KeyError as error:
    raise ValueError(f'it has no entry {name}') from error
  if entry.compress_type != zipfile.ZIP_STORED:
    raise ValueError(f'{name} is compressed')
  return archive.read(name)


def _check_order(system: Any) -> None:
  """Refuses numbers that are not little-endian."""
  pairs = system.pairs if isinstance(system, Table) else []
  for pair in pairs:
    match pair:
      case ('little_endian', False):
        raise ValueError('its numbers are not little-endian')


def _places(
  file: BinaryIO, keys: list[str], roots: Mapping[str, Storage]
) -> dict[str, tuple[int, int]]:
  """Key of a storage -> (position, bytes), from the position of a file on.

  Raises:
    ValueError: if one has another size than its tensors, or the file is cut.
  """
  end, places = os.fstat(file.fileno()).st_size, dict[str, tuple[int, int]]()
  for key in keys:
    if key not in roots or key in places:
      raise ValueError(f'its list of storages has an impossible {key[:99]!r}')
    length = file.read(8)
    count, start = int.from_bytes(length, 'little'), file.tell()
    size = count * item_size(roots[key].dtype)
    if len(length) == 8 and count != roots[key].size:
      raise ValueError(
        f'storage {key} has {count} numbers; of its tensors it must have '
        f'{roots[key].size}'
      )
    if len(length) < 8 or start + size > end:
      raise ValueError(f'it is cut short: storage {key} exceeds the file')
    places[key] = start, size
    file.seek(start + size)
  return places
