"""Tensors of .safetensors files, each of which is read on its own.

Nothing is mapped into memory: what is read is what is in memory.

Source of the format: https://github.com/huggingface/safetensors, 0.6.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from safetensors import safe_open

from flowdistill.convert.names import check_once
from flowdistill.convert.tensors import DTYPES

SAFE_DTYPES = {
  'F64': 'float64',
  'F32': 'float32',
  'F16': 'float16',
  'BF16': 'bfloat16',
  'F8_E4M3': 'float8_e4m3fn',
  'F8_E5M2': 'float8_e5m2',
  'F8_E4M3FNUZ': 'float8_e4m3fnuz',
  'F8_E5M2FNUZ': 'float8_e5m2fnuz',
  'F8_E8M0': 'float8_e8m0fnu',
  'C64': 'complex64',
  'I64': 'int64',
  'I32': 'int32',
  'I16': 'int16',
  'I8': 'int8',
  'U64': 'uint64',
  'U32': 'uint32',
  'U16': 'uint16',
  'U8': 'uint8',
  'BOOL': 'bool',
}
"""Name of a type in .safetensors -> in PyTorch."""
LENGTH = 8  # bytes of the length of the header


@dataclasses.dataclass(frozen=True)
class Stored:
  """A tensor in a file.

  Attributes:
    path: of the file.
    name: there.
    dtype: by its name in the file, such as 'BF16'.
    shape: of the tensor.
    spans: (first, number) of its bytes in the file, which follow each other.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]
  spans: tuple[tuple[int, int], ...]

  def read(self) -> np.ndarray:
    """Its numbers.

    Raises:
      ValueError: for a type that NumPy and JAX do not have.
    """
    if self.dtype not in SAFE_DTYPES:
      raise ValueError(f'{self.name} has the type {self.dtype}')
    size = sum(number for _, number in self.spans)
    data, done = np.empty(size, np.uint8), 0
    with self.path.open('rb') as file:
      for first, number in self.spans:
        view: Any = data[done : done + number]
        file.seek(first)
        if file.readinto(view) != number:
          raise ValueError(f'{self.path}: {self.name} is cut short')
        done += number
    return data.view(DTYPES[SAFE_DTYPES[self.dtype]]).reshape(self.shape)

  def rows(self, numbers: np.ndarray) -> 'Stored':
    """Some of its rows, in their order, as a tensor of its own."""
    ends = np.flatnonzero(np.diff(numbers) != 1) + 1
    (begin, size), *_ = self.spans
    row = size // self.shape[0]
    spans = tuple(
      (begin + int(run[0]) * row, len(run) * row)
      for run in np.split(numbers, ends)
    )
    shape = (len(numbers), *self.shape[1:])
    return dataclasses.replace(self, shape=shape, spans=spans)


def stored_tensors(path: pathlib.Path) -> dict[str, Stored]:
  """Name -> tensor, by the header, which is checked against the file.

  Raises:
    SafetensorError: if it is damaged or cut short.
    ValueError: if a name is there twice.
  """
  with safe_open(path, 'numpy'):
    pass
  with path.open('rb') as file:
    size = int.from_bytes(file.read(LENGTH), 'little')
    header = json.loads(file.read(size), object_pairs_hook=_once)
  header.pop('__metadata__', None)
  return {
    name: _stored(path, name, entry, LENGTH + size)
    for name, entry in header.items()
  }


def _stored(
  path: pathlib.Path, name: str, entry: dict[str, Any], begin: int
) -> Stored:
  first, last = entry['data_offsets']
  shape = tuple(entry['shape'])
  spans = ((begin + first, last - first),)
  return Stored(path, name, entry['dtype'], shape, spans)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """The dict of pairs; raises ValueError if a name appears twice."""
  check_once([name for name, _ in pairs])
  return dict(pairs)
