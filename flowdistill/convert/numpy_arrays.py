"""NumPy's arrays in an interpreted pickle, read without executing it.

An array is `_reconstruct(ndarray, ...)`, whose state is (version, shape, type,
whether it is in Fortran order, bytes); from protocol 5 on it may be
`_frombuffer(bytes, type, shape, order)`. Before protocol 3 bytes are
`encode(text, 'latin1')`.

Source: `numpy._core.multiarray` and `numpy._core.numeric` of NumPy 2.4.
"""

import math
from typing import Any

import numpy as np

from flowdistill.convert.pickle_machine import Call

RECONSTRUCT = (
  'numpy.core.multiarray._reconstruct',
  'numpy._core.multiarray._reconstruct',
)
FROM_BUFFER = (
  'numpy.core.numeric._frombuffer',
  'numpy._core.numeric._frombuffer',
)
FLOATS = 'f4', 'f8'


def float_array(node: Any) -> np.ndarray:
  """The array of float32 or float64 that a node is, in the native byte order.

  Raises:
    ValueError: saying what else it is, or how its parts contradict each other.
  """
  match node:
    case Call(name, _, [(_, shape, kind, bool(fortran), data)]) if (
      name in RECONSTRUCT
    ):
      return _array(data, kind, shape, 'F' if fortran else 'C')
    case Call(name, (data, kind, shape, ('C' | 'F') as order)) if (
      name in FROM_BUFFER
    ):
      return _array(data, kind, shape, order)
  raise ValueError('is not an array of NumPy')


def _array(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
  dtype = _dtype(kind)
  match data:
    case Call('_codecs.encode', (str(text), 'latin1')):
      data = text.encode('latin1', 'replace')
  if not isinstance(data, bytes | bytearray):
    raise ValueError('is an array without its bytes')
  if type(shape) is not tuple or not all(
    type(n) is int and 0 <= n < 2**31 for n in shape
  ):
    raise ValueError('is an array without a shape')
  if len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(data):
    raise ValueError(
      f'is an array of shape {list(shape)[:32]}, type {dtype} and {len(data)} '
      'bytes, which do not fit together'
    )
  array = np.frombuffer(data, dtype).reshape(shape, order=order)
  return array.astype(dtype.newbyteorder('='))


def _dtype(node: Any) -> np.dtype[Any]:
  match node:
    case Call('numpy.dtype', (str(kind), *_), state) if kind in FLOATS:
      order = '='
      match state:
        case [(int(), ('<' | '>' | '=' | '|') as order, *_)]:
          pass
      return np.dtype(kind).newbyteorder(order)
    case Call('numpy.dtype', (str(kind), *_)):
      raise ValueError(f'is an array of type {kind[:20]!r}, not of floats')
  raise ValueError('is an array without a type')
