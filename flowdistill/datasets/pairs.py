"""Pairs of data and noise on disk, by index, as reflow reads them.

A store is a folder of shards (see `shards.py`) with `x0`, the conditions of its
spec, and `x1` where the noise cannot be drawn again. Where it can, its number
is enough, and a batch has `noise`, uint32 [b, 2]: seed and index (see
`flow/noise.py`). manifest.json records the spec, how the pairs were generated,
and whether they are finished.
"""

import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from flowdistill.datasets.shard_manifest import manifest_of
from flowdistill.datasets.shards import (
  MANIFEST,
  Arrays,
  Rows,
  read_shard,
  sizes_of,
)
from flowdistill.datasets.source import check_arrays
from flowdistill.files.json_reader import fields, refuse
from flowdistill.flow.noise import drawn_again
from flowdistill.flow.spec import DataSpec

FORMAT = 'flowdistill pairs 2'
FIRST_FORMAT = 'flowdistill pairs 1'  # has shape and num_classes for a spec
SCHEMA = {
  'spec': dict,
  'count': int,
  'shard_size': int,
  'seed': int,
  'noise': str,
  'finished': bool,
}
ALLOWED = {
  'count': range(1, 2**32),
  'shard_size': range(1, 2**32),
  'seed': range(2**32),
  'noise': ('drawn', 'stored'),
  'direction': ('random', 'from_noise', 'from_data'),
}


class Pairs:
  """Pairs by index, with random access; rows are read when indexed.

  Args:
    spec: of an example.
    sizes: of the parts, in order.
    load: part -> its arrays: `x0` and `x1` float32 [m, *shape], or `noise`
      uint32 [m, 2] in place of `x1`, and the conditions of the spec.
  """

  def __init__(
    self, spec: DataSpec, sizes: Sequence[int], load: Callable[[int], Arrays]
  ):
    self.spec, self._rows = spec, Rows(sizes, load)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One pair for an int, a batch of them for an array of ints [b]."""
    return self._rows.take(index)

  def conditions(self, index: Any) -> dict[str, np.ndarray]:
    """The conditions of the pairs `index` [b]."""
    return self._rows.take(index, [*self.spec.cond])


def open_store(folder: pathlib.Path) -> Pairs:
  """The pairs of a store.

  Raises:
    ValueError: if it is not finished; when a shard is first read, if a file is
      missing, damaged, or does not match the spec.
  """
  manifest = read_manifest(folder)
  if not manifest['finished']:
    raise ValueError(
      f'the pairs in {folder} are not finished: generate them again, which '
      'keeps the finished shards'
    )
  spec, size = DataSpec.of(manifest['spec']), manifest['shard_size']
  sizes = sizes_of(manifest['count'], size)
  names = ('x0', 'x1', *spec.cond)

  def load(part: int) -> Arrays:
    rows = read_shard(folder, part)
    check_arrays(spec, rows, sizes[part], f'{folder}, shard {part}')
    if manifest['noise'] == 'stored' and 'x1' not in rows:
      raise ValueError(f'{folder}, shard {part} has no x1')
    arrays = {name: rows[name] for name in names if name in rows}
    if manifest['noise'] == 'drawn':
      check_noise(manifest)
      arrays['noise'] = numbers(manifest['seed'], part * size, sizes[part])
    return arrays

  return Pairs(spec, sizes, load)


def numbers(seed: int, start: int, size: int) -> np.ndarray:
  """(seed, index) of the noise from index `start` on, uint32 [size, 2]."""
  index = np.arange(start, start + size, dtype=np.uint32)
  return np.stack([np.full(size, seed, np.uint32), index], axis=1)


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """The manifest of a store; one of the first format is converted.

  Raises:
    ValueError: if there is no manifest, or it has another format.
  """
  path = folder / MANIFEST
  missing = f'{folder} is not a store of pairs: there is no {MANIFEST} in it'
  manifest = manifest_of(folder, missing, FORMAT, FIRST_FORMAT)
  if manifest.get('format') == FIRST_FORMAT:
    fields(manifest, {'shape': list, 'num_classes': int}, path)
    shape, classes = manifest.pop('shape'), manifest.pop('num_classes')
    spec = DataSpec.labelled(shape, classes).to_json()
    manifest |= {'format': FORMAT, 'spec': json.loads(json.dumps(spec))}
  return check_manifest(manifest, path)


def check_manifest(
  manifest: dict[str, Any], path: pathlib.Path
) -> dict[str, Any]:
  """The manifest, if each of its values can be one.

  Raises:
    DamagedFileError: naming the value that cannot.
  """
  fields(manifest, SCHEMA, path)
  for key, allowed in ALLOWED.items():
    if manifest.get(key, allowed[0]) not in allowed:
      refuse(
        path, f'has {key!r}: {manifest[key]!r}, which must be in {allowed}'
      )
  try:
    shape = DataSpec.of(manifest['spec']).shape
    noise = manifest['noise'] == 'stored' or manifest['first_noise']
    if noise is not True and len(noise) != min(4, math.prod(shape)):
      refuse(path, "has a 'first_noise' of another length")
  except (AttributeError, KeyError, TypeError) as error:
    refuse(path, f"has a 'spec' that cannot be read: {error!r}", error)
  return manifest


def first_noise(seed: int, shape: tuple[int, ...]) -> list[float]:
  """The first numbers of noise 0 of a seed, which identify its generator."""
  noise = drawn_again(jnp.asarray(numbers(seed, 0, 1)), shape)
  return np.ravel(noise)[:4].tolist()


def check_noise(manifest: Mapping[str, Any]) -> None:
  """Raises ValueError if noise differs from that of the manifest."""
  shape = tuple(manifest['spec']['shape'])
  now = first_noise(manifest['seed'], shape)
  if not np.allclose(now, manifest['first_noise'], atol=1e-5):
    raise ValueError(
      f'the noise of these pairs begins with {manifest["first_noise"]}, and '
      f'here its seed gives {now}: they were generated with another random '
      'number generator (jax_default_prng_impl, jax_threefry_partitionable)'
    )
