"""Captions that a text encoder has encoded once, on disk.

A cache is a folder of shards (see `shards.py`) that a stage with a
`text_encoder` writes. A caption is found by its key, a SHA-256 of the encoder
and the caption, so that each is encoded once, whichever data have it. Number k
has `key` uint8 [32], `size`, its number of tokens before it was cut, and
`pooled`, if the encoder has one; the rows of `text` of all captions follow each
other, without padding if the encoder has a mask. Number 0 is the empty caption,
which is also in null.*.npy, as the null condition. manifest.json records the
encoder, and whether the cache is finished.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.shard_manifest import digest_of, manifest_of
from flowdistill.datasets.shards import (
  MANIFEST,
  checksums_of,
  read_shard,
  sizes_of,
)
from flowdistill.files.json_reader import fields, refuse
from flowdistill.files.paths import expand
from flowdistill.files.stored_array import StoredArray
from flowdistill.flow.spec import Condition

FORMAT = 'flowdistill captions 1'
TEXT, MASK, POOLED, KEY, SIZE = 'text', 'mask', 'pooled', 'key', 'size'
SCHEMA = {
  'count': int,
  'shard_size': int,
  'length': int,
  'masked': bool,
  'dtype': str,
  'encoder': dict,
  'encoder_sha256': str,
  'finished': bool,
}
HOW = 'make it by --job=encode of a stage with a text_encoder'


class Cache:
  """The rows of a cache by number.

  Args:
    folder: of the cache.
    manifest: of it.
    verify: whether checksums are compared.

  Attributes:
    manifest: of it.
    encoder: SHA-256 of what it says of the encoder.
    length: tokens of a caption.
    dtype: of what is stored.
    sizes: tokens of each whole caption, [count].
    numbers: key -> number.
  """

  def __init__(
    self, folder: pathlib.Path, manifest: Mapping[str, Any], *, verify: bool
  ):
    self.folder, self.manifest = folder, manifest
    self.encoder, self.length = manifest['encoder_sha256'], manifest['length']
    self.dtype = manifest['dtype']
    counts = sizes_of(manifest['count'], manifest['shard_size'])
    self._shards = [
      read_shard(folder, k, verify=verify) for k in range(len(counts))
    ]
    self.sizes = np.concatenate([shard[SIZE] for shard in self._shards])
    self.numbers = {
      bytes(key): k
      for k, key in enumerate(
        row for shard in self._shards for row in shard[KEY]
      )
    }
    self._kept = (
      np.minimum(self.sizes, self.length)
      if manifest['masked']
      else np.full(len(self.sizes), self.length)
    )
    self._starts = np.concatenate(
      [np.cumsum(kept) - kept for kept in self._by_shard(self._kept)]
    )
    for shard, kept in zip(
      self._shards, self._by_shard(self._kept), strict=True
    ):
      if len(shard[TEXT]) != kept.sum():
        refuse(folder, f'has a shard without the {kept.sum()} rows of its text')

  def _by_shard(self, rows: np.ndarray) -> list[np.ndarray]:
    size = self.manifest['shard_size']
    return [rows[k : k + size] for k in range(0, len(rows), size)]

  @property
  def conditions(self) -> dict[str, Condition]:
    """The conditions, abstractly."""
    first = self._shards[0]
    shapes = {TEXT: (self.length, *first[TEXT].shape[1:])}
    if self.manifest['masked']:
      shapes[MASK] = (self.length,)
    if POOLED in first:
      shapes[POOLED] = first[POOLED].shape[1:]
    return {
      name: Condition(
        shape, 'bool' if name == MASK else 'float32', self._null(name)
      )
      for name, shape in shapes.items()
    }

  def _null(self, name: str) -> Any:
    """A number, or a file."""
    null = self.manifest['null'][name]
    if not isinstance(null, str):
      return null
    return StoredArray(str((self.folder / null_of(name)).resolve()), null)

  def rows(self, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """name -> [n, ...] of the captions with these numbers."""
    shapes = self.conditions
    found = {
      name: np.zeros((len(numbers), *shapes[name].shape), shapes[name].dtype)
      for name in shapes
    }
    size = self.manifest['shard_size']
    for row, number in enumerate(numbers):
      shard = self._shards[number // size]
      start, kept = self._starts[number], self._kept[number]
      found[TEXT][row, :kept] = shard[TEXT][start : start + kept]
      if MASK in found:
        found[MASK][row, :kept] = True
      if POOLED in found:
        found[POOLED][row] = shard[POOLED][number % size]
    return found


def in_dtype(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, Any]:
  """Numbers as they are after they were stored in a dtype."""
  return {
    name: array.astype(dtype).astype(np.float32)
    if array.dtype == np.float32
    else array
    for name, array in arrays.items()
  }


def key_of(encoder: str, caption: str) -> bytes:
  """The key of a caption, 32 bytes."""
  data = f'{encoder}\n{caption}'.encode('utf-8', 'surrogatepass')
  return hashlib.sha256(data).digest()


def digest_of_encoder(about: Mapping[str, Any]) -> str:
  """The SHA-256 of all that determines what an encoder answers."""
  text = json.dumps(about, sort_keys=True, ensure_ascii=False)
  return hashlib.sha256(text.encode()).hexdigest()


def null_of(name: str) -> str:
  """The name of the file with the null of a condition."""
  return f'null.{name}.npy'


def lists_of(folder: pathlib.Path, count: int, shard_size: int) -> str:
  """The SHA-256 of all lists of files."""
  sizes = sizes_of(count, shard_size)
  return digest_of([checksums_of(folder, k) for k in range(len(sizes))])


def open_cache(path: str, *, verify: bool) -> Cache:
  """The cache in a folder.

  Raises:
    ValueError: if it is none, is not finished, or a file was changed.
  """
  if not path:
    raise ValueError(f"path = '' must be a folder of encoded captions: {HOW}")
  folder = expand(path, f'path = {path!r}')
  try:
    manifest = read_manifest(folder)
    check_whole(folder, manifest)
    return _opened(folder, json.dumps(manifest), verify)
  except ValueError as error:
    raise ValueError(f'path = {path!r}: {error}') from error


@functools.lru_cache(maxsize=4)
def _opened(folder: pathlib.Path, manifest: str, verify: bool) -> Cache:
  """It, opened once unless its manifest changes."""
  return Cache(folder, json.loads(manifest), verify=verify)


def check_whole(folder: pathlib.Path, found: Mapping[str, Any]) -> None:
  """Raises ValueError unless it is finished, and its lists are as then."""
  if not found['finished']:
    raise ValueError(
      'the captions are not all encoded: run --job=encode again, which keeps '
      'those that are'
    )
  sizes = found['count'], found['shard_size']
  for k in range(len(sizes_of(*sizes))):
    if not checksums_of(folder, k).is_file():
      raise ValueError(f'{checksums_of(folder, k)} is missing')
  if lists_of(folder, *sizes) != found.get('lists'):
    raise ValueError(
      'one of its lists of files (.sha256) is not the one that --job=encode '
      'wrote: remove the folder and encode the captions again'
    )


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """The manifest of a cache.

  Raises:
    ValueError: if there is none, or it has another format.
  """
  path = folder / MANIFEST
  missing = f'it is no folder of encoded captions, as there is no {MANIFEST}'
  manifest = manifest_of(folder, f'{missing} in it: {HOW}', FORMAT)
  fields(manifest, SCHEMA, path)
  if min(manifest[k] for k in ('count', 'shard_size', 'length')) < 1:
    refuse(path, 'has values that --job=encode does not write')
  return manifest
