"""The tensors of an interpreted pickle by their names, views of storages."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from flowdistill.convert.modules import opened
from flowdistill.convert.opcodes import MOST
from flowdistill.convert.pickle_machine import Call, Named, Table

BYTES = 'bytes'  # the type of an untyped storage
STORAGES = {
  'DoubleStorage': 'float64',
  'FloatStorage': 'float32',
  'HalfStorage': 'float16',
  'BFloat16Storage': 'bfloat16',
  'LongStorage': 'int64',
  'IntStorage': 'int32',
  'ShortStorage': 'int16',
  'CharStorage': 'int8',
  'ByteStorage': 'uint8',
  'BoolStorage': 'bool',
  'ComplexFloatStorage': 'complex64',
  'ComplexDoubleStorage': 'complex128',
  'QInt8Storage': 'qint8',
  'QUInt8Storage': 'quint8',
  'QInt32Storage': 'qint32',
  'QUInt4x2Storage': 'quint4x2',
  'QUInt2x4Storage': 'quint2x4',
  'UntypedStorage': BYTES,
  '_UntypedStorage': BYTES,
}
"""Class of a storage -> type of its numbers."""
DTYPES = {
  name: np.dtype(name)
  for name in (
    *('float64', 'float32', 'float16', 'complex64', 'complex128', 'bool'),
    *('int64', 'int32', 'int16', 'int8', 'uint64', 'uint32', 'uint16', 'uint8'),
  )
} | {
  name: np.dtype(getattr(jnp, name))
  for name in (
    *('bfloat16', 'float8_e4m3fn', 'float8_e4m3fnuz', 'float8_e5m2'),
    *('float8_e5m2fnuz', 'float8_e8m0fnu'),
  )
}
"""Name of a type in PyTorch -> ours."""
DEEPEST, NODES, LONGEST = 8, 250_000, 255
"""Levels of a tree, its dicts, lists and tensors, and characters of a name."""
BRANCHES = (list, tuple)  # also Table and Call, which are tuples
SPECIAL = {
  'torch._utils._rebuild_qtensor': 'a quantised tensor',
  'torch._utils._rebuild_sparse_tensor': 'a sparse tensor',
  'torch._utils._rebuild_meta_tensor_no_storage': 'a meta tensor',
  'torch._utils._rebuild_wrapper_subclass': 'a tensor of another class',
  'torch._utils._rebuild_device_tensor_from_numpy': 'a tensor of a device',
  'numpy.core.multiarray._reconstruct': 'a NumPy array in a pickle',
  'numpy._core.multiarray._reconstruct': 'a NumPy array in a pickle',
  'numpy._core.numeric._frombuffer': 'a NumPy array in a pickle',
}
"""Calls that make arrays which are not read -> what they are."""
REBUILDS = {
  'torch._utils._rebuild_tensor': None,
  'torch._utils._rebuild_tensor_v2': None,
  'torch._utils._rebuild_tensor_v3': 5,
}
"""Calls that make a tensor -> the place of its type after the storage."""
INSIDE = (
  'torch._utils._rebuild_parameter',
  'torch._utils._rebuild_parameter_with_state',
  'torch._utils._rebuild_device_tensor_from_cpu_tensor',
)
"""Calls whose first argument is the tensor."""


class Storage(NamedTuple):
  """`size` flat numbers; a view begins at number `first` of a storage."""

  dtype: str
  key: str
  size: int
  first: int = 0


class Tensor(NamedTuple):
  """A view of a storage; offset and strides count numbers of `dtype`."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  dtype: str


class Unreadable(NamedTuple):
  """An array that is not read; `what` it is."""

  what: str


def tensors_of(tree: Any) -> dict[str, Tensor | Unreadable]:
  """The tensors of a tree by names such as 'ema.shadow_params.0'.

  Keys of dicts that are neither text nor integers have no name, and what is
  below them is not read; nor is what has a name of more than LONGEST
  characters.

  Raises:
    ValueError: if it has too many levels or entries, or two tensors of one
      name.
  """
  found: dict[str, Tensor | Unreadable] = {}
  for name, tensor in _flatten(tree):
    if name in found:
      raise ValueError(f'{name} appears twice')
    found[name] = tensor
  return found


def view(
  tensor: Tensor | Unreadable, read: Callable[[Storage], bytes | bytearray]
) -> np.ndarray:
  """The numbers of a tensor, a view of the bytes of its storage.

  Raises:
    ValueError: saying how it exceeds its storage, or that it is of a kind that
      is not read.
  """
  if isinstance(tensor, Unreadable):
    raise ValueError(f'is {tensor.what}, which is not read')
  storage, offset, shape, strides, dtype = tensor
  kind = DTYPES[dtype]
  size, first = storage.size, storage.first * kind.itemsize
  if storage.dtype == BYTES:
    size, first = size // kind.itemsize, storage.first
  count = math.prod(shape)
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if count > size or (count and last >= size):
    raise ValueError(
      f'has the shape {list(shape)} with strides {list(strides)} from number '
      f'{offset}, which exceeds the {size} numbers of its storage'
    )
  if not count:
    return np.zeros(shape, kind)
  start = first + kind.itemsize * offset
  steps = [kind.itemsize * step for step in strides]
  data = read(storage)
  if len(data) < first + kind.itemsize * size:
    raise ValueError(
      f'is in a storage of {len(data)} bytes, which is too short'
    )
  return np.ndarray(shape, kind, data, start, steps)


def item_size(dtype: str) -> int:
  """The bytes of a number of a type in STORAGES.

  Raises:
    ValueError: for another type.
  """
  if dtype in DTYPES:
    return DTYPES[dtype].itemsize
  if dtype not in STORAGES.values():
    raise ValueError(f'it has a storage of the unknown type {dtype}')
  return 4 if dtype == 'qint32' else 1


def storage_of(key: Any) -> Storage:
  """The storage that ('storage', class, key, device, size[, view]) names.

  Raises:
    ValueError: if it is something else.
  """
  match key:
    case (
      str(kind),
      Named(name),
      str() | int() as key,
      _,
      int(size),
      *rest,
    ) if kind == 'storage' and len(rest) < 2:
      dtype = STORAGES.get(name.rpartition('.')[2], name)
      if 0 <= size < 2**63 and len(str(key)) < LONGEST:
        return _part(Storage(dtype, str(key), size), rest[0] if rest else None)
  raise ValueError('it refers to something that is not a storage')


def _part(storage: Storage, part: Any) -> Storage:
  """A storage, or the part of it that (key, first, size) is."""
  match part:
    case None:
      return storage
    case (_, int(first), int(size)) if (
      0 <= first <= first + size <= storage.size
    ):
      return storage._replace(first=first, size=size)
  raise ValueError(f'it has an impossible view of storage {storage.key}')


def _flatten(tree: Any) -> Iterator[tuple[str, Tensor | Unreadable]]:
  """The tensors of a tree, in its order."""
  stack, nodes, entries = [('', tree, 0)], 0, 0
  while stack:
    name, here, depth = stack.pop()
    nodes, entries = nodes + 1, entries + _size(here)
    if module := opened(here):
      here, scanned = module
      entries += scanned
    # Only a tree that contains a part twice has more entries than opcodes.
    if depth > DEEPEST or nodes + len(stack) > NODES or entries > MOST:
      raise ValueError(f'it has more than {DEEPEST} levels or {NODES} nodes')
    if tensor := _tensor(here):
      yield name, tensor
      continue
    stack += [
      (f'{name}.{key}' if name else str(key), child, depth + 1)
      for key, child in reversed(_children(here))
      if len(name) + (len(key) if isinstance(key, str) else 20) <= LONGEST
    ]


def _size(node: Any) -> int:
  """The number of its entries."""
  if isinstance(node, Table):
    return len(node.pairs)
  return len(node) if type(node) in (list, tuple) else 0


def _children(node: Any) -> list[tuple[str | int, Any]]:
  """(key, child) of a dict, list or tuple that may contain tensors.

  The key is text or a number; other keys have no name.
  """
  if type(node) in (list, tuple):
    return [(i, x) for i, x in enumerate(node) if isinstance(x, BRANCHES)]
  if not isinstance(node, Table):
    return []
  return [
    (key, child)
    for key, child in filter(_is_pair, node.pairs)
    if isinstance(child, BRANCHES)
    and (isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**63))
  ]


def _is_pair(value: Any) -> bool:
  return type(value) in (list, tuple) and len(value) == 2


def _tensor(node: Any) -> Tensor | Unreadable | None:
  """The tensor that a call makes; None for any other object.

  Raises:
    ValueError: if its arguments are not those of a tensor.
  """
  for _ in range(DEEPEST):
    match node:
      case Call(name, (inner, *_)) if name in INSIDE:
        node = inner
      case Call(
        'torch._tensor._rebuild_from_type_v2',
        (Named(name), Named(_), arguments, _),
      ) if type(arguments) is tuple:
        node = Call(name, arguments)
      case Call(name, _) if name in SPECIAL:
        return Unreadable(SPECIAL[name])
      case Call(name, (Storage() as storage, *rest)) if name in REBUILDS:
        return _rebuilt(storage, rest, REBUILDS[name])
      case Call(name, _) if name in REBUILDS:
        raise ValueError('it has a tensor without a storage')
      case _:
        return None
  raise ValueError('it has a tensor in too many calls')


def _rebuilt(
  storage: Storage, rest: list[Any], typed: int | None
) -> Tensor | Unreadable:
  """A tensor of the arguments of a call, the type of which may be one."""
  match rest:
    case (int(offset), shape, strides, *_):
      shape, strides = _sizes(shape), _sizes(strides)
    case _:
      raise ValueError('it has a tensor without a shape')
  if not 0 <= offset < 2**63 or len(shape) != len(strides):
    raise ValueError('it has a tensor whose offset or strides are impossible')
  dtype = storage.dtype
  if typed is not None and len(rest) > typed:
    name = rest[typed].name if isinstance(rest[typed], Named) else ''
    dtype = name.removeprefix('torch.')
  flags = rest[5 if typed is None else typed + 1 :]
  if flags and isinstance(flags[0], Table) and flags[0].pairs:
    return Unreadable('a tensor with flags, such as a negative view')
  if dtype not in DTYPES or storage.dtype not in (BYTES, dtype):
    return Unreadable(f'a tensor of type {dtype}')
  return Tensor(storage, offset, shape, strides, dtype)


def _sizes(value: Any) -> tuple[int, ...]:
  """A tuple of at most 32 sizes, also in torch.Size.

  Raises:
    ValueError: if it is none.
  """
  sizes: Any = value
  if isinstance(value, Call) and len(value.arguments) == 1:
    sizes = value.arguments[0]
  if type(sizes) not in (tuple, list) or len(sizes) > 32:
    raise ValueError('it has a tensor with a shape that is none')
  if not all(isinstance(n, int) and 0 <= n < 2**63 for n in sizes):
    raise ValueError('it has a tensor with an impossible shape or strides')
  return tuple(sizes)
