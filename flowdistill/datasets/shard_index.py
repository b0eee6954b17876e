"""The index of a tar shard: where the members of its samples lie.

SHARD.index.npz lies beside SHARD. It has the size and the modification time of
the shard that it is of, and is refused for any other.
"""

import dataclasses
import pathlib
import tarfile
from collections.abc import Sequence

import numpy as np

from flowdistill.datasets.files import stamp_of
from flowdistill.datasets.samples import Sample, Wanted, grouped
from flowdistill.datasets.shard_paths import is_local
from flowdistill.datasets.split import hash_of
from flowdistill.datasets.tar import members
from flowdistill.files.atomic import replacing
from flowdistill.files.npz import read_npz, write_npz

ENDING = '.index.npz'
VERSION = 1
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
}
COMMAND = 'python -m flowdistill.main --job=index --path='


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
  """The samples of a shard, n of m members.

  Attributes:
    stamp: int64 [3], the version of this file, and the modification time in ns
      and the size of the shard.
    keys, key_ends: the keys of samples in a row, uint8, and their ends [n].
    hashes: uint64 [n], of the keys (see `split.py`).
    faults, fault: texts, each with a zero at its end, uint8; and int32 [n], the
      text that says why a sample cannot be used, the first of which is ''.
    endings, sample, ending: texts as above; and int32 [m], the sample and the
      ending of a member.
    place: int64 [m, 2], the start and the size of its data in the shard.
  """

  stamp: np.ndarray
  keys: np.ndarray
  key_ends: np.ndarray
  hashes: np.ndarray
  faults: np.ndarray
  fault: np.ndarray
  endings: np.ndarray
  sample: np.ndarray
  ending: np.ndarray
  place: np.ndarray

  def __len__(self) -> int:
    return len(self.key_ends)

  def key(self, sample: int) -> str:
    """The key of a sample."""
    start = self.key_ends[sample - 1] if sample else 0
    data = self.keys[start : self.key_ends[sample]].tobytes()
    return data.decode('utf-8', 'surrogateescape')

  def chosen(
    self, wanted: Wanted
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    """What is used of the samples, of which k have no fault.

    Returns:
      (number int64 [k] of each in the shard, place int64 [k, 2, 2] of its
      picture and its caption, whether the caption is JSON bool [k], the faults
      of the others by number).
    """
    endings = texts_of(self.endings)
    image = flags(endings, wanted.is_image)[self.ending]
    text = flags(endings, wanted.is_text)[self.ending]
    json = flags(endings, lambda e: e.endswith('json'))[self.ending]
    images, texts = (
      np.bincount(self.sample[which], minlength=len(self))
      for which in (image, text)
    )
    right = (images == 1) & (texts == 1) & (self.fault == 0)
    use = right[self.sample]
    places = np.stack([self.place[use & image], self.place[use & text]], 1)
    known = texts_of(self.faults)
    faults = {
      int(k): known[self.fault[k]]
      or wanted.fault(int(images[k]), int(texts[k]))
      for k in np.flatnonzero(~right)
    }
    return np.flatnonzero(right), places, json[use & text], faults

  def without_members(self) -> 'Index':
    """The keys and hashes alone, once the members are chosen."""
    none = np.zeros(0, np.int32)
    return dataclasses.replace(self, sample=none, ending=none, place=none)


def flags(endings: Sequence[str], test: object) -> np.ndarray:
  """A test of texts, bool [n]."""
  assert callable(test)
  return np.asarray([test(ending) for ending in endings], bool)


def index_of(samples: Sequence[Sample], stamp: tuple[int, int]) -> Index:
  """The index of samples, and of the (time, size) of their shard."""
  keys = [s.key.encode('utf-8', 'surrogateescape') for s in samples]
  owned = [
    (k, ending, member)
    for k, sample in enumerate(samples)
    for ending, member in sample.members
  ]
  endings = [*dict.fromkeys(ending for _, ending, _ in owned)]
  faults = [*dict.fromkeys(['', *(s.fault for s in samples)])]
  number = {ending: k for k, ending in enumerate(endings)}
  place = [(member.start, member.size) for _, _, member in owned]
  return Index(
    np.asarray([VERSION, *stamp], np.int64),
    np.frombuffer(b''.join(keys), np.uint8),
    np.cumsum([len(key) for key in keys], dtype=np.int64),
    np.asarray([hash_of(s.key) for s in samples], np.uint64),
    as_bytes(faults),
    np.asarray([faults.index(s.fault) for s in samples], np.int32),
    as_bytes(endings),
    np.asarray([k for k, _, _ in owned], np.int32),
    np.asarray([number[ending] for _, ending, _ in owned], np.int32),
    np.asarray(place, np.int64).reshape(-1, 2),
  )


def as_bytes(texts: Sequence[str]) -> np.ndarray:
  """Texts, each with a zero at its end, as uint8."""
  data = ''.join(f'{text}\0' for text in texts)
  return np.frombuffer(data.encode('utf-8', 'surrogateescape'), np.uint8)


def texts_of(data: np.ndarray) -> list[str]:
  """The inverse of `as_bytes`."""
  text = data.tobytes().decode('utf-8', 'surrogateescape')
  return text.split('\0')[:-1]


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
    index = index_of([*grouped(members(path))], stamp)
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
