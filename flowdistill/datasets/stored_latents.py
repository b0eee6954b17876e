"""Latents as the members of tar shards: KEY.npy, or KEY.npz of two arrays.

They are those of a cache (see `latents.py`): `mean` and `std`, one `sample`, or
only `mean`. manifest.json beside the shards, which `--job=shard` writes, has
under `latents` what the cache says of them.
"""

import dataclasses
import functools
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from flowdistill.datasets.latents import SCHEMA, is_possible, scaled
from flowdistill.datasets.retried import Retried, open_shard
from flowdistill.datasets.shard_paths import PIPE, is_local
from flowdistill.datasets.shards import MANIFEST
from flowdistill.files.json_reader import fields, parse_json, read_json, typed
from flowdistill.files.npz import UNREADABLE
from flowdistill.flow.spec import DataSpec

LATENTS = 'latents'  # in the manifest
KEYS = ('spec', 'pictures', 'stored', 'dtype', 'space')
# `lists` is the hash of the cache, which a run compares when it goes on.
ALL_KEYS = (*KEYS, 'scale', 'shift', 'weights_sha256', 'lists')
HOW = 'write the shards by --job=encode and --job=shard'
LONGEST = 2**24  # bytes of a manifest
HEADER = 2**12  # bytes of an .npy beside its numbers
VERSIONS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclasses.dataclass(frozen=True, eq=False)
class StoredLatents:
  """The bytes of latents (see `decoders.Decoder`).

  Attributes:
    manifest: what they are of.
  """

  manifest: Mapping[str, Any]
  dtype = np.float32

  @property
  def spec(self) -> DataSpec:
    """The shape of an example, without conditions."""
    return DataSpec(DataSpec.of(self.manifest['spec']).shape)

  @property
  def shape(self) -> tuple[int, ...]:
    """[1 or 2, *spec.shape]: the arrays that are stored."""
    return len(self.manifest['stored']), *self.spec.shape

  @property
  def pictures(self) -> tuple[int, ...]:
    """The shape of the images."""
    return tuple(self.manifest['pictures'])

  def decode(self, data: bytes) -> np.ndarray:
    """The arrays of an example, float32 [1 or 2, *spec.shape].

    Raises:
      ValueError: if they are not as the manifest says, or not finite.
    """
    names = self.manifest['stored']
    files = [data] if len(names) == 1 else members(data, names, self._size)
    arrays = [
      read_npy(file, name, self.manifest['dtype'], self.spec.shape)
      for file, name in zip(files, names, strict=True)
    ]
    return np.stack(arrays).astype(np.float32)

  def finish(self, rows: np.ndarray) -> np.ndarray:
    """The means or samples of rows, scaled."""
    return scaled(rows[:, 0], self.manifest)

  def draw(
    self, rows: np.ndarray, rngs: Sequence[np.random.Generator]
  ) -> np.ndarray:
    """mean + std · noise of rows, scaled; the same as `finish` without std."""
    if len(self.manifest['stored']) == 1:
      return self.finish(rows)
    shape = self.spec.shape
    noise = np.stack([rng.standard_normal(shape, np.float32) for rng in rngs])
    return scaled(rows[:, 0] + rows[:, 1] * noise, self.manifest)

  @property
  def _size(self) -> int:
    """The most bytes of an .npy."""
    one = np.empty(self.spec.shape, self.manifest['dtype'])
    return one.nbytes + HEADER


def members(data: bytes, names: Sequence[str], most: int) -> list[bytes]:
  """The files NAME.npy of an .npz, of at most so many bytes each.

  Raises:
    ValueError: if one is not there, is longer, or the .npz is damaged.
  """
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
      found = []
      for name in names:
        with file.open(f'{name}.npy') as member:
          found.append(member.read(most + 1))
          if len(found[-1]) > most:
            raise ValueError(f'{name} is too long')
      return found
  except UNREADABLE as error:
    raise ValueError(f'its latents cannot be read: {error}') from error


def read_npy(
  data: bytes, name: str, dtype: str, shape: tuple[int, ...]
) -> np.ndarray:
  """The array of an .npy, of which the header is believed in nothing.

  Raises:
    ValueError: if it is another array than it must be, or not finite.
  """
  file = io.BytesIO(data)
  try:
    header = VERSIONS[np.lib.format.read_magic(file)]
    found, fortran, kind = header(cast(Any, file))
  except UNREADABLE as error:
    raise ValueError(f'its latents are no .npy file: {error}') from error
  if (found, kind, fortran) != (shape, np.dtype(dtype), False):
    order = ' in the order of Fortran' if fortran else ''
    raise ValueError(
      f'its latents have {name} = {kind} {[*found]}{order}, which must be '
      f'{dtype} {[*shape]}'
    )
  numbers = data[file.tell() :]
  if len(numbers) != np.prod(shape) * kind.itemsize:
    raise ValueError(f'its latents are cut, or longer than {name} is')
  array = np.frombuffer(numbers, kind).reshape(shape)
  if count := int((~np.isfinite(array)).sum()):
    raise ValueError(
      f'its latents are not finite: {count} of {array.size} numbers of {name}'
    )
  return array


def read_decoder(shards: Sequence[str]) -> StoredLatents:
  """What decodes the latents of shards, by the manifests beside them.

  Raises:
    ValueError: if one is not there or not of latents, or they differ.
  """
  if piped := [shard for shard in shards if shard.startswith(PIPE)]:
    raise ValueError(
      f'latents = True: there is no {MANIFEST} beside {piped[0]!r}'
    )
  places = [*dict.fromkeys(shard.rpartition('/')[0] for shard in shards)]
  records = [of_latents(f'{place}/{MANIFEST}') for place in places]
  for place, record in zip(places, records, strict=True):
    if record != records[0]:
      raise ValueError(
        f'latents = True: those beside {place}/{MANIFEST} are not made as '
        f'those beside {places[0]}/{MANIFEST}'
      )
  return StoredLatents(records[0])


def of_latents(path: str) -> dict[str, Any]:
  """What a manifest says of the latents in the shards beside it."""
  try:
    found = read_json(path) if is_local(path) else read_remote(path)
  except FileNotFoundError:
    raise ValueError(
      f'latents = True: there is no {path}, which says what made them: {HOW}'
    ) from None
  if not isinstance(record := found.get(LATENTS), dict):
    raise ValueError(
      f'latents = True: {path} does not say what made them: {HOW}'
    )
  fields(record, {key: SCHEMA[key] for key in KEYS} | {'lists': str}, path)
  try:
    right = is_possible({**record, 'count': 1, 'shard_size': 1})
  except (AttributeError, KeyError, TypeError, ValueError):
    right = False
  if not right:
    raise ValueError(f'latents = True: {path} has values that cannot be')
  return {key: record.get(key) for key in ALL_KEYS}


def read_remote(url: str) -> dict[str, Any]:
  """A manifest beside remote shards, without its checksum."""
  file = Retried(url, functools.partial(open_shard, url))
  try:
    data = file.read(LONGEST)
  finally:
    file.close()
  return typed(parse_json(data, url), dict, url, 'it')
