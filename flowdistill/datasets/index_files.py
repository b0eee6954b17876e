"""Index files of tar shards: made, read and checked.

SHARD.index.npz lies beside SHARD. It has the size and the modification time of
the shard that it is of, and is refused for any other.
"""

import pathlib
import tarfile

import numpy as np

from flowdistill.datasets.files import stamp_of
from flowdistill.datasets.samples import grouped
from flowdistill.datasets.shard_index import VERSION, Index, index_of, texts_of
from flowdistill.datasets.shard_paths import is_local
from flowdistill.datasets.tar import members
from flowdistill.files.atomic import replacing
from flowdistill.files.npz import read_npz, write_npz

ENDING = '.index.npz'
ARRAYS = {  # name -> (dtype, number of axes)
  'stamp': (np.int64, 1),
  'keys': (np.uint8, 1),
  'key_ends': (np.int64, 1),
  'hashes': (np.uint64, 1),
  'faults': (np.uint8, 1),
  'fault': (np.int32, 1),
  'endings': (np.uint8, 1),
  'sample': (np.int32, 1),
  'ending': (np.int32, 1),
  'place': (np.int64, 2),
  'shape': (np.int32, 2),
}
COMMAND = 'python -m flowdistill.main --job=index --path='


def index_path(shard: str) -> pathlib.Path:
  """Where the index of a shard lies."""
  return pathlib.Path(f'{shard}{ENDING}')


def make_index(shard: str) -> Index:
  """Lists a shard, and writes its index beside it, atomically.

  Raises:
    ValueError: if it is not a file, is cut or damaged, or was changed
      meanwhile.
    OSError: if it cannot be read, or the index cannot be written.
  """
  if not is_local(shard):
    raise ValueError(f'{shard!r} must be a file: remote shards are streamed')
  path = pathlib.Path(shard)
  stamp = stamp_of(path)
  try:
    index = index_of(path, [*grouped(members(path))], stamp)
  except tarfile.TarError as error:
    raise ValueError(f'{shard!r} cannot be indexed: {error}') from error
  if stamp_of(path) != stamp:
    raise ValueError(f'{shard!r} was changed while it was indexed; do it again')
  with replacing(index_path(shard)) as file:
    write_npz(file, vars(index))
  return index


def read_index(shard: str) -> Index:
  """The index beside a shard.

  Raises:
    ValueError: if it is damaged, or of another state of the shard.
    OSError: if it cannot be read.
  """
  path = index_path(shard)
  again = f'make it again by {COMMAND}{shard}'
  try:
    index = checked(read_npz(path, lambda names: [*({*ARRAYS} & {*names})]))
  except ValueError as error:
    raise ValueError(f'{str(path)!r} is no index: {error}; {again}') from error
  version, *stamp = index.stamp.tolist()
  if version != VERSION:
    raise ValueError(f'{str(path)!r} is of another version; {again}')
  if tuple(stamp) != stamp_of(pathlib.Path(shard)):
    raise ValueError(
      f'{str(path)!r} is stale: {shard!r} has another size or modification '
      f'time; {again}'
    )
  return index


def checked(arrays: dict[str, np.ndarray]) -> Index:
  """An index, after its shapes, types and numbers were compared."""
  for name, (dtype, axes) in ARRAYS.items():
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != axes:
      raise ValueError(f'{name} must be {np.dtype(dtype)} of {axes} axes')
  index = Index(**arrays)
  n, m = len(index), len(index.place)
  size = int(index.stamp[-1]) if len(index.stamp) == 3 else -1
  right = (
    len(index.hashes) == len(index.fault) == n
    and len(index.sample) == len(index.ending) == m
    and index.place.shape == index.shape.shape == (m, 2)
    and (index.shape >= 0).all()
    and within(index.fault, len(texts_of(index.faults)))
    and within(index.ending, len(texts_of(index.endings)))
    and within(index.sample, n)
    and (np.diff(index.sample) >= 0).all()
    and (np.diff(index.key_ends, prepend=0) > 0).all()
    and (index.key_ends[-1:] == len(index.keys)).all()
    and index.place.shape == (m, 2)
    and (index.place >= 0).all()
    and (index.place.sum(1) <= size).all()
  )
  if not right:
    raise ValueError('its arrays contradict each other')
  return index


def within(numbers: np.ndarray, count: int) -> bool:
  """Whether all numbers lie in 0 ... count − 1."""
  return bool(((numbers >= 0) & (numbers < count)).all())
