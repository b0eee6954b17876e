"""Samples of tar shards by place, read through the indices of the shards."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import IO

import numpy as np

from flowdistill.datasets.captions import (
  check_length,
  decode_json,
  decode_text,
)
from flowdistill.datasets.catalogue import counted
from flowdistill.datasets.files import Stamp, check_size, stamp_of
from flowdistill.datasets.index_files import COMMAND, index_path, read_index
from flowdistill.datasets.samples import Wanted
from flowdistill.datasets.shard_paths import title_of
from flowdistill.datasets.split import by_hash, split_places
from flowdistill.files.regular import open_regular

OPEN = 64  # shards


class IndexedShards:
  """Pictures and captions in shards (see `captioned_pictures.CaptionedFiles`).

  Some 85 bytes of memory for each sample, and those of its key.

  Args:
    shards: their paths.
    wanted: which members of a sample are used.
    caption: key of the caption in a JSON member.

  Raises:
    ValueError: if an index is stale or damaged.
  """

  def __init__(self, shards: Sequence[str], wanted: Wanted, caption: str):
    self.shards, self.key = shards, caption
    self.stamps: dict[pathlib.Path, Stamp] = {}
    self.faults: dict[str, str] = {}
    parts, self.indices = [], []
    for shard in shards:
      index = read_index(shard)
      parts.append(index.chosen(wanted))
      self.indices.append(index.without_members())
    counts = [len(part.number) for part in parts]
    self.shard = np.repeat(np.arange(len(shards), dtype=np.int32), counts)
    self.number = np.concatenate([part.number for part in parts])
    self.place = np.concatenate([part.place for part in parts])
    self.json = np.concatenate([part.json for part in parts])
    self.shape = np.concatenate([part.shape for part in parts])
    for shard, index, part in zip(shards, self.indices, parts, strict=True):
      self.stamps[pathlib.Path(shard)] = stamp_of(pathlib.Path(shard))
      title = title_of(shard)
      faults = part.faults.items()
      self.faults |= {f'{title}/{index.key(k)}': f for k, f in faults}
    self._open = functools.lru_cache(maxsize=OPEN)(open_regular)

  def __len__(self) -> int:
    return len(self.shard)

  def keep(
    self, split: str, *, validation: float, held_out: str | None
  ) -> None:
    """Keeps the samples of a split (see `split.py`), by their keys.

    Raises:
      ValueError: as `split_places`.
    """
    if held_out is not None or not len(self):
      keys = [self.sample_key(place) for place in range(len(self))]
      places = split_places(
        keys, split, validation=validation, held_out=held_out
      )
    else:
      places = self._hashed(split, validation)
    self.shard, self.number = self.shard[places], self.number[places]
    self.place, self.json = self.place[places], self.json[places]
    self.shape = self.shape[places]

  def sample_key(self, place: int) -> str:
    """The key of a sample in its shard."""
    return self.indices[self.shard[place]].key(int(self.number[place]))

  def name(self, place: int) -> str:
    """Shard and key of a sample."""
    title = title_of(self.shards[int(self.shard[place])])
    return f'{title}/{self.sample_key(place)}'

  def read(self, place: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """The file of a picture, whose caption can be read, too."""
    self.caption(place)
    return self._data(place, 0), {}

  def conditions(self, places: np.ndarray) -> dict[str, np.ndarray]:
    """None."""
    del places
    return {}

  def caption(self, place: int) -> str:
    """The caption of a picture.

    Raises:
      ValueError: if it cannot be read.
    """
    check_length(int(self.place[place, 1, 1]))
    data = self._data(place, 1)
    return (
      decode_json(data, self.key) if self.json[place] else decode_text(data)
    )

  def _data(self, place: int, member: int) -> bytes:
    start, size = self.place[place, member].tolist()
    check_size(size)
    # A reference keeps a file open that is no longer among the last ones.
    file: IO[bytes] = self._open(self.shards[int(self.shard[place])])
    data = os.pread(file.fileno(), size, start)
    if len(data) != size:
      raise ValueError(f'its shard ends before byte {start + size:,}')
    return data

  def _hashed(self, split: str, validation: float) -> np.ndarray:
    """The places of a split by the hashes that the indices have."""
    hashes = np.concatenate([index.hashes for index in self.indices])
    first = np.cumsum([0, *map(len, self.indices)])[self.shard]
    held = by_hash(hashes[first + self.number], validation)
    wanted = {'all': held | True, 'train': ~held, 'validation': held}[split]
    if not wanted.any():
      raise ValueError(
        f'the split {split!r} of {len(self)} samples is empty: use more '
        "samples or the split 'all'"
      )
    return np.flatnonzero(wanted)


def are_indexed(shards: Sequence[str], path: str) -> bool:
  """Whether all shards have an index beside them.

  Raises:
    ValueError: if only some have one.
  """
  missing = [shard for shard in shards if not index_path(shard).exists()]
  if missing and len(missing) < len(shards):
    raise ValueError(
      f'path = {path!r}: {counted(len(missing), "shard")} of {len(shards):,} '
      f'have no index, such as {missing[0]!r}; make it by {COMMAND}{path!r}'
    )
  return not missing


def check_faults(
  faults: dict[str, str], count: int, max_broken: float, path: str
) -> str:
  """What is left out of `count` samples, as a text; '' if nothing is.

  Raises:
    ValueError: if it is more than a share of `max_broken`.
  """
  reasons: dict[str, list[str]] = {}
  for name, fault in faults.items():
    reasons.setdefault(fault, []).append(name)
  text = ', '.join(
    f'{len(names):,} with {fault}, such as {names[0]!r}'
    for fault, names in sorted(reasons.items(), key=lambda e: -len(e[1]))
  )
  if len(faults) > max_broken * count:
    raise ValueError(
      f'path = {path!r}: {len(faults):,} of {count:,} samples cannot be used, '
      f'more than max_broken = {max_broken:g} allows: {text}'
    )
  return text
