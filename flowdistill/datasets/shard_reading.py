"""The samples of tar shards one after another, as they arrive."""

import dataclasses
import functools
import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, Any

import numpy as np

from flowdistill.datasets.captions import LONGEST
from flowdistill.datasets.files import LARGEST
from flowdistill.datasets.index_files import index_path, read_index
from flowdistill.datasets.pipeline import permutation
from flowdistill.datasets.retried import Retried, open_shard
from flowdistill.datasets.samples import (
  Sample,
  Wanted,
  grouped,
  split_name,
)
from flowdistill.datasets.shard_paths import is_local, title_of
from flowdistill.datasets.split import is_member
from flowdistill.datasets.tar import CUT, Member, walk

Note = Callable[[str, str], None]
"""Is called with (name, reason) of what is left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded(Member):
  """A member with its data, if it is needed and not too large."""

  data: bytes = b''


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
  """A sample as it lies in its shard.

  Attributes:
    name: shard and key.
    image, text: the bytes of its picture and of its caption.
    json: whether the caption is JSON.
  """

  name: str
  image: bytes
  text: bytes
  json: bool


@dataclasses.dataclass(frozen=True)
class ShardReader:
  """Reads shards in their order.

  Attributes:
    wanted: which members of a sample are used.
    split: 'all', 'train' or 'validation', by the hash of a key.
    validation: share of the samples that are held out, in [0, 1].
    wait: seconds before the second try of a read that fails.
  """

  wanted: Wanted
  split: str = 'all'
  validation: float = 0.1
  wait: float = 1.0

  def read(
    self, shard: str, note: Note, note_shard: Note
  ) -> Generator[Arrival]:
    """The samples of a shard, to where it is cut, if it is.

    Args:
      shard: its path.
      note: for samples that cannot be used.
      note_shard: for a shard that is cut or damaged.

    Raises:
      OSError: if it cannot be read, after some tries.
      ValueError: if it is not there.
    """
    title = title_of(shard)
    try:
      load = functools.partial(loaded, self.wanted)
      for sample in self._samples(shard, load):
        found, name = self.wanted.choose(sample), f'{title}/{sample.key}'
        if isinstance(found, str):
          note(name, found)
          continue
        image, text, json = found
        assert isinstance(image, Loaded)
        assert isinstance(text, Loaded)
        yield Arrival(name, image.data, text.data, json)
    except tarfile.TarError as error:
      note_shard(title, str(error))

  def count(self, shard: str) -> int:
    """How many samples `read` yields; only headers are looked at.

    Raises:
      OSError, ValueError: as `read`.
    """
    if is_local(shard) and index_path(shard).exists():
      index = read_index(shard)
      used = index.hashes[index.chosen(self.wanted).number]
      return int(self._belong(used).sum())
    count = 0
    try:
      for sample in self._samples(shard, whole):
        count += not isinstance(self.wanted.choose(sample), str)
    except tarfile.TarError:
      pass  # `read` names it
    return count

  def _samples(
    self, shard: str, load: Callable[[Any, Member], Member]
  ) -> Iterator[Sample]:
    """The samples of a shard that belong to the split."""
    file: Any = Retried(shard, functools.partial(open_shard, shard), self.wait)
    try:
      for sample in grouped(load(file, member) for member in walk(file)):
        if is_member(sample.key, self.split, validation=self.validation):
          yield sample
    finally:
      file.close()

  def _belong(self, hashes: np.ndarray) -> np.ndarray:
    """Which keys belong to the split; as `is_member`, for hashes [n]."""
    held = np.asarray(
      [int(each) < self.validation * 2**64 for each in hashes], bool
    )
    return {'all': held | True, 'train': ~held, 'validation': held}[self.split]


def loaded(wanted: Wanted, file: IO[bytes], member: Member) -> Member:
  """A member with its data, which are read if they are wanted.

  Raises:
    tarfile.ReadError: as `whole`.
  """
  parts, most = split_name(member.name), 0
  if parts is not None and is_plain(member):
    ending = parts[1]
    most = LARGEST * wanted.is_image(ending) or (LONGEST + 1) * wanted.is_text(
      ending
    )
  size = 0 if most == LARGEST < member.size else min(member.size, most)
  data = b''
  if size:
    file.seek(member.start)
    data = file.read(size)
  whole(file, member)
  fields = {f.name: getattr(member, f.name) for f in dataclasses.fields(member)}
  return Loaded(**fields, data=data)


def whole(file: IO[bytes], member: Member) -> Member:
  """The same member, of which the last byte is there.

  `ShardReader.count` and `read` thus end at the same member of a cut shard.

  Raises:
    tarfile.ReadError: if the archive ends within its data.
  """
  end = member.start + member.size
  if is_plain(member) and member.size and file.tell() < end:
    file.seek(end - 1)
    if not file.read(1):
      raise tarfile.ReadError(CUT.format(end))
  return member


def is_plain(member: Member) -> bool:
  """Whether a member's data lie in a row."""
  return member.regular and member.sparse is None


class Arrivals:
  """What arrives at a process: its shards, in another order in each epoch.

  Args:
    shards: of the process.
    reader: of shards.
    seed: of the orders.
    note, note_shard: see `ShardReader.read`.
  """

  def __init__(
    self,
    shards: Sequence[str],
    reader: ShardReader,
    seed: int,
    note: Note,
    note_shard: Note,
  ):
    self.shards, self.reader, self.seed = shards, reader, seed
    self.notes = note, note_shard
    self._count = functools.cache(reader.count)

  def since(self, first: int) -> Iterator[Arrival]:
    """Endless, from number `first` on: shards before it are only counted.

    Raises:
      ValueError: if there is no sample in any shard; and as `ShardReader.read`.
    """
    epoch, skipped, left = self._place(first)
    while True:
      found = False
      for shard in self._order(epoch)[skipped:]:
        for arrival in self.reader.read(shard, *self.notes):
          found = True
          if left:
            left -= 1
          else:
            yield arrival
      if not found and not skipped:
        raise ValueError(f'no shard has a sample, such as {self.shards[0]!r}')
      epoch, skipped = epoch + 1, 0

  def _order(self, epoch: int) -> list[str]:
    order = permutation(len(self.shards), self.seed, epoch)
    return [self.shards[int(k)] for k in order]

  def _place(self, first: int) -> tuple[int, int, int]:
    """(epoch, shards before it, samples before it in its shard)."""
    epoch = 0
    while True:
      for k, shard in enumerate(self._order(epoch)):
        if not first or first < self._count(shard):  # 0 needs no count
          return epoch, k, first
        first -= self._count(shard)
      total = sum(map(self._count, self.shards))
      if not total:
        return 0, 0, 0  # `since` says so
      epoch, first = epoch + 1 + first // total, first % total
