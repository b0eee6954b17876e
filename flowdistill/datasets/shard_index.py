"""The index of a tar shard: where the members of its samples lie."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowdistill.datasets.image_headers import shape_of
from flowdistill.datasets.samples import Sample, Wanted, is_image
from flowdistill.datasets.split import hash_of
from flowdistill.datasets.tar import Member

VERSION = 2


class Chosen(NamedTuple):
  """What is used of the samples of a shard, of which k have no fault.

  Attributes:
    number: int64 [k], of each in the shard.
    place: int64 [k, 2, 2], of its picture and its caption.
    json: bool [k], whether the caption is JSON.
    shape: int32 [k, 2], (height, width) of its picture, zeros if unknown.
    faults: of the others, by number.
  """

  number: np.ndarray
  place: np.ndarray
  json: np.ndarray
  shape: np.ndarray
  faults: dict[int, str]


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
    shape: int32 [m, 2], (height, width) of an upright picture, from its header;
      zeros of what is none, or cannot be read.
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
  shape: np.ndarray

  def __len__(self) -> int:
    return len(self.key_ends)

  def key(self, sample: int) -> str:
    """The key of a sample."""
    start = self.key_ends[sample - 1] if sample else 0
    data = self.keys[start : self.key_ends[sample]].tobytes()
    return data.decode('utf-8', 'surrogateescape')

  def chosen(self, wanted: Wanted) -> Chosen:
    """What is used of the samples."""
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
    image, text = use & image, use & text
    places = np.stack([self.place[image], self.place[text]], 1)
    known = texts_of(self.faults)
    faults = {
      int(k): known[self.fault[k]]
      or wanted.fault(int(images[k]), int(texts[k]))
      for k in np.flatnonzero(~right)
    }
    number = np.flatnonzero(right)
    return Chosen(number, places, json[text], self.shape[image], faults)

  def without_members(self) -> 'Index':
    """The keys and hashes alone, once the members are chosen."""
    none = np.zeros(0, np.int32)
    return dataclasses.replace(
      self, sample=none, ending=none, place=none, shape=none
    )


def flags(endings: Sequence[str], test: object) -> np.ndarray:
  """A test of texts, bool [n]."""
  assert callable(test)
  return np.asarray([test(ending) for ending in endings], bool)


def index_of(
  shard: pathlib.Path, samples: Sequence[Sample], stamp: tuple[int, int]
) -> Index:
  """The index of the samples of a shard, and of its (time, size)."""
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
    np.asarray(
      [shape_in(shard, ending, m) for _, ending, m in owned], np.int32
    ).reshape(-1, 2),
  )


def shape_in(
  shard: pathlib.Path, ending: str, member: Member
) -> tuple[int, int]:
  """(height, width) of a member of a shard; zeros if it is no picture."""
  if not is_image(ending):
    return 0, 0
  try:
    return shape_of(member.read(shard, member.size))
  except (ValueError, OSError):
    return 0, 0  # it is named where it is read


def as_bytes(texts: Sequence[str]) -> np.ndarray:
  """Texts, each with a zero at its end, as uint8."""
  data = ''.join(f'{text}\0' for text in texts)
  return np.frombuffer(data.encode('utf-8', 'surrogateescape'), np.uint8)


def texts_of(data: np.ndarray) -> list[str]:
  """The inverse of `as_bytes`."""
  text = data.tobytes().decode('utf-8', 'surrogateescape')
  return text.split('\0')[:-1]
