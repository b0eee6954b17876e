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
    start, size: its bytes in the file.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]
  start: int
  size: int

  def read(self) -> np.ndarray:
    """Its numbers.

    Raises:
      ValueError: for a type that NumPy and JAX do not have.
    """
    if self.dtype not in SAFE_DTYPES:
      raise ValueError(f'{self.name} has the type {self.dtype}')
    kind = DTYPES[SAFE_DTYPES[self.dtype]]
    data = np.empty(self.size // kind.itemsize, kind)
    view: Any = data.view(np.uint8)
    with self.path.open('rb') as file:
      file.seek(self.start)
      if file.readinto(view) != self.size:
        raise ValueError(f'{self.name} ends early: the file is cut short')
    return data.reshape(self.shape)


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
  return Stored(path, name, entry['dtype'], shape, begin + first, last - first)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """The dict of pairs; raises ValueError if a name appears twice."""
  check_once([name for name, _ in pairs])
  return dict(pairs)
