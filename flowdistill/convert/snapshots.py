"""Pickles with their storages inside: `pickle.dump` of a module.

EDM2's snapshots are such. Unlike `torch.save`, pickle writes each storage as
bytes in the pickle, which are a file of PyTorch before 1.6 of that storage
alone. `opcodes.py` interprets the pickle, and no code in it is run.
"""

import io
import mmap
from collections.abc import Iterable, Mapping
from typing import IO, Any, BinaryIO, cast

import numpy as np

from flowdistill.convert.opcodes import interpret
from flowdistill.convert.pickles import Choose, Inform, read_head, views
from flowdistill.convert.tensors import (
  Storage,
  Tensor,
  Unreadable,
  item_size,
  tensors_of,
  view,
)

Arrays = dict[str, np.ndarray]
HEAD, MOST = 1024, 10_000
"""Bytes before the numbers of a storage, and storages; both bound the time."""


class Storages:
  """The storages of a pickle, by the order in which they are loaded.

  Attributes:
    places: key -> (position in the file, bytes).
  """

  def __init__(self) -> None:
    self.places: dict[str, tuple[int, int]] = {}

  def add(self, data: bytes, start: int) -> Storage:
    """The storage that is `data`, which begins at `start` of the file.

    Raises:
      ValueError: if it is none, or there are too many.
    """
    if len(self.places) >= MOST:
      raise ValueError(f'it has more than {MOST} storages')
    head = io.BytesIO(data[:HEAD])
    storage, keys, _ = read_head(head)
    if not isinstance(storage, Storage) or keys != [storage.key]:
      raise ValueError('it has bytes that must be a storage, and are none')
    first, size = head.tell() + 8, storage.size * item_size(storage.dtype)
    count = int.from_bytes(data[first - 8 : first], 'little')
    if count != storage.size or len(data) != first + size:
      raise ValueError(
        f'it has a storage of {storage.size} numbers in {len(data)} bytes, '
        f'which must be {first + size}'
      )
    key = str(len(self.places))
    self.places[key] = start + first, size
    return storage._replace(key=key)


def read_snapshot(
  file: BinaryIO, choose: Choose, inform: Inform | None = None
) -> Arrays:
  """The arrays in a pickle whose names `choose` selects.

  Names are those of a state dict, below the key of the module: 'ema.unet....'.

  Args:
    file: of the pickle.
    choose: names -> those that are read.
    inform: see `pickles.read_zipped`.

  Raises:
    ValueError: naming what is wrong.
  """
  tree, places = interpreted(file)

  def chosen(names: list[str]) -> Iterable[str]:
    if not names:
      raise ValueError('it has no tensors')
    return choose(names)

  def read(storage: Storage) -> bytes:
    start, size = places[storage.key]
    file.seek(start)
    return file.read(size)

  return views(tree, chosen, read, inform)


def interpreted(file: BinaryIO) -> tuple[Any, Mapping[str, tuple[int, int]]]:
  """(object, places of its storages) of the pickle that a file is."""
  storages = Storages()
  with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    whole = cast(IO[bytes], mapped)
    return interpret(whole, inside=storages.add), storages.places


def patch(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes other numbers into the arrays of a snapshot, in their own types.

  Args:
    file: of the pickle, to read and write.
    arrays: by the names in the file.

  Raises:
    ValueError: naming an array that is not there, has another shape, or has
      numbers that are too large for its type.
  """
  tree, places = interpreted(file)
  tensors = tensors_of(tree)
  for name, array in arrays.items():
    if name not in tensors:
      raise ValueError(f'it has no {name}')
    storage, data = _patched(file, places, name, tensors[name], array)
    file.seek(places[storage.key][0])
    file.write(data)


def _patched(
  file: BinaryIO,
  places: Mapping[str, tuple[int, int]],
  name: str,
  tensor: Tensor | Unreadable,
  array: np.ndarray,
) -> tuple[Storage, bytearray]:
  """The storage of a tensor, and its bytes with the numbers of an array."""
  if isinstance(tensor, Unreadable):
    raise ValueError(f'{name} is {tensor.what}, which is not written')
  start, size = places[tensor.storage.key]
  file.seek(start)
  data = bytearray(file.read(size))
  numbers = view(tensor, lambda storage: data)
  if numbers.dtype.kind in 'biu':
    raise ValueError(f'{name} must have floats, and has {numbers.dtype}')
  if numbers.size == array.size == 1:  # such as gains, [] or [1]
    array = array.reshape(numbers.shape)
  if numbers.shape != array.shape:
    raise ValueError(
      f'{name} has the shape {list(numbers.shape)}, and must have '
      f'{list(array.shape)}'
    )
  with np.errstate(over='ignore'):
    numbers[...] = array
  if not np.isfinite(numbers).all():
    raise ValueError(f'{name} has numbers that are too large for its type')
  return tensor.storage, data
