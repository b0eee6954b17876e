"""Reads the arrays in PyTorch's files without executing code in them.

Such a file (of `torch.save`, since PyTorch 1.6) is a zip archive of raw
storages and of `data.pkl`, which describes the tensors in them. A pickle is a
program that may call whatever it names. This reader knows the few names that
tensors need, and resolves each to a function that only stores its arguments;
any other name is an error.

Source: the documentation of Python's `pickle`, "Restricting Globals",
https://docs.python.org/3/library/pickle.html#restricting-globals; the names
are those of `torch._utils` in PyTorch 2.13.
"""

import collections
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

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
}
DEEPEST, MOST = 8, 1_000_000  # levels of a tree, and its entries
BROKEN = (
  pickle.UnpicklingError,
  zipfile.BadZipFile,
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  TypeError,
  ValueError,
)
"""What a damaged or malicious pickle or archive may raise."""


class Storage(NamedTuple):
  """A flat array of `size` numbers in the entry data/`key` of the archive."""

  dtype: str
  key: str
  size: int


class Tensor(NamedTuple):
  """A view of a storage; offset and strides count numbers, not bytes."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class TensorUnpickler(pickle.Unpickler):
  """Unpickles dicts, lists, numbers and strings, and tensors as `Tensor`."""

  def find_class(self, module: str, name: str) -> Any:
    """Resolves a name in the pickle.

    Raises:
      UnpicklingError: if tensors do not need it.
    """
    if module == 'torch' and name in STORAGES:
      return STORAGES[name]
    # New functions at each call: a pickle may set their attributes.
    known = {
      'collections.OrderedDict': collections.OrderedDict,
      'torch._utils._rebuild_tensor_v2': lambda *a: Tensor(*a[:4]),
      'torch._utils._rebuild_parameter': lambda *a: a[0],
    }
    if f'{module}.{name}' not in known:
      raise pickle.UnpicklingError(
        f'it names {module}.{name}, which may be code, and is not executed'
      )
    return known[f'{module}.{name}']

  def persistent_load(self, pid: Any) -> Storage:
    """The storage with the id ('storage', type, key, device, size)."""
    kind, dtype, key, _, size = pid
    if kind != 'storage' or dtype not in STORAGES.values():
      raise pickle.UnpicklingError(f'it refers to {kind!r}')
    return Storage(dtype, str(key), int(size))


def read_pickled(
  path: pathlib.Path, choose: Callable[[list[str]], Iterable[str]]
) -> dict[str, np.ndarray]:
  """The arrays of a .pth or .pt file whose names `choose` selects.

  Nested arrays have names such as 'ema.shadow_params.0'.

  Raises:
    ValueError: if PyTorch has not saved it, or it names code.
  """
  if not zipfile.is_zipfile(path):
    raise ValueError(
      f'{path} is no {path.suffix} file of PyTorch 1.6 or later, a zip archive'
    )
  try:
    with zipfile.ZipFile(path) as archive:
      root = _root(archive)
      pickled = io.BytesIO(_stored(archive, f'{root}data.pkl'))
      tensors = dict(_flatten(TensorUnpickler(pickled).load()))
      chosen = choose(list(tensors))
      return {n: _array(archive, root, tensors[n]) for n in chosen}
  except BROKEN as error:
    raise ValueError(f'{path} is no file of tensors: {error}') from error


def _root(archive: zipfile.ZipFile) -> str:
  """'archive/' of 'archive/data.pkl', after a check of the byte order.

  Raises:
    ValueError: if there is not one pickle, or numbers are not little-endian.
  """
  names = set(archive.namelist())
  (pickled,) = (n for n in names if n.endswith('/data.pkl'))
  root = pickled.removesuffix('data.pkl')
  order = f'{root}byteorder'
  if order in names and _stored(archive, order) != b'little':
    raise ValueError('its numbers are not little-endian')
  return root


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
  """An entry, which must not be compressed: it could expand to any size."""
  if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
    raise ValueError(f'{name} is compressed')
  return archive.read(name)


def _flatten(tree: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
  """The tensors of a tree by their names.

  Raises:
    ValueError: if it is too deep, or has too many entries.
  """
  stack, seen = [(name, tree, 0)], 0
  while stack:
    name, here, depth = stack.pop()
    seen += 1
    if depth > DEEPEST or seen > MOST:
      raise ValueError(f'more than {DEEPEST} levels or {MOST} entries')
    if isinstance(here, Tensor):
      yield name, here
      continue
    if isinstance(here, dict):
      children = list(here.items())
    elif isinstance(here, list):
      children = list(enumerate(here))
    else:
      continue
    dot = f'{name}.' if name else ''
    stack += [(f'{dot}{k}', v, depth + 1) for k, v in reversed(children)]


def _array(archive: zipfile.ZipFile, root: str, tensor: Tensor) -> np.ndarray:
  """The numbers of a tensor.

  Raises:
    ValueError: if it exceeds its storage.
  """
  (dtype, key, size), offset, shape, strides = tensor
  steps = zip(shape, strides, strict=True)
  last = offset + sum((n - 1) * step for n, step in steps)
  count = math.prod(shape)
  if min((offset, *shape, *strides)) < 0 or count > size:
    raise ValueError(f'a tensor {shape} in {size} numbers')
  if count and last >= size:
    raise ValueError(f'a tensor that ends at {last} of {size} numbers')
  kind = jnp.dtype(dtype)
  numbers = np.frombuffer(_stored(archive, f'{root}data/{key}'), kind, size)
  steps = [kind.itemsize * step for step in strides]
  view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps)
  return view.copy()
