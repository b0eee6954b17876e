"""Pairs of data and noise on disk, by index, as reflow reads them.

A store is a folder of shards (see `shards.py`) with `x0`, with classes `label`,
and `x1` where noise cannot be drawn again. Elsewhere its number is enough, and
a batch has `noise`, uint32 [b, 2]: seed and index (see `flow/noise.py`).
manifest.json says what it holds, who made it, and whether it is finished.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from flowdistill.datasets.shards import Rows, read_shard, write_whole
from flowdistill.flow.noise import drawn_again

MANIFEST = 'manifest.json'
FORMAT = 'flowdistill pairs 1'
BATCH = ('x0', 'x1', 'label')  # what of a shard goes into a batch


class Pairs:
  """Pairs by index; rows are read from disk when they are asked for.

  Args:
    shape: of an example.
    num_classes: 0 if there are no labels.
    sizes: of the parts, in order.
    read: part -> its arrays, `x0` and `x1` float32 [m, *shape] or `noise`
      uint32 [m, 2], and `label` int32 [m].
  """

  def __init__(
    self,
    shape: tuple[int, ...],
    num_classes: int,
    sizes: Sequence[int],
    read: Callable[[int], Rows],
  ):
    self.shape, self.num_classes = shape, num_classes
    self.ends = np.cumsum(sizes)
    self.starts = self.ends - sizes
    self._read = functools.cache(read)

  def __len__(self) -> int:
    return int(self.ends[-1])

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """One pair for an int, a batch of them for an array of ints [b]."""
    index = np.asarray(index)
    flat = index.reshape(-1)
    parts = np.searchsorted(self.ends, flat, side='right')
    found: dict[str, np.ndarray] = {}
    for part in np.unique(parts):
      here = parts == part
      for name, array in self._read(int(part)).items():
        rows = np.empty((len(flat), *array.shape[1:]), array.dtype)
        found.setdefault(name, rows)[here] = array[
          flat[here] - self.starts[part]
        ]
    return {k: a.reshape(index.shape + a.shape[1:]) for k, a in found.items()}


def open_store(folder: pathlib.Path) -> Pairs:
  """The pairs of a store.

  Raises:
    ValueError: if it is not finished; when a shard is first read, if a file is
      missing or damaged.
  """
  made = read_manifest(folder)
  if not made['finished']:
    raise ValueError(
      f'the pairs in {folder} are not finished: make them again, and what is '
      'there already stays'
    )
  count, size = made['count'], made['shard_size']
  starts = range(0, count, size)
  sizes = [min(size, count - start) for start in starts]

  def read(part: int) -> Rows:
    rows = read_shard(folder, part)
    kept = {name: rows[name] for name in BATCH if name in rows}
    if made['noise'] == 'drawn':
      check_noise(made)
      kept['noise'] = numbers(made['seed'], starts[part], sizes[part])
    return kept

  return Pairs(tuple(made['shape']), made['num_classes'], sizes, read)


def numbers(seed: int, start: int, size: int) -> np.ndarray:
  """(seed, index) of the noise from number `start` on, uint32 [size, 2]."""
  index = np.arange(start, start + size, dtype=np.uint32)
  return np.stack([np.full(size, seed, np.uint32), index], axis=1)


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """What a store says of itself.

  Raises:
    ValueError: if there is no manifest, or it is none of ours.
  """
  path = folder / MANIFEST
  if not path.is_file():
    raise ValueError(
      f'{folder} is no store of pairs: there is no {MANIFEST} in it'
    )
  made = json.loads(path.read_text())
  if made.get('format') != FORMAT:
    raise ValueError(
      f'{path} has the format {made.get("format")!r}, and this is {FORMAT!r}'
    )
  return made


def write_manifest(folder: pathlib.Path, made: Mapping[str, Any]) -> None:
  """Says what a store holds, or is to hold."""
  text = json.dumps({'format': FORMAT, **made}, indent=2)
  write_whole(folder / MANIFEST, f'{text}\n'.encode())


def first_noise(seed: int, shape: tuple[int, ...]) -> list[float]:
  """The first numbers of the noise 0 of a seed, to know it again by."""
  return np.ravel(drawn_again(jnp.asarray(numbers(seed, 0, 1)), shape))[
    :4
  ].tolist()


def check_noise(made: Mapping[str, Any]) -> None:
  """Raises ValueError if noise is drawn otherwise than in a manifest."""
  now = first_noise(made['seed'], tuple(made['shape']))
  if not np.allclose(now, made['first_noise'], atol=1e-5):
    raise ValueError(
      f'these pairs begin with the noise {made["first_noise"]}, and here its '
      f'seed gives {now}: they were made with another random number generator '
      '(jax_default_prng_impl, jax_threefry_partitionable)'
    )
