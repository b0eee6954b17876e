"""Latents of images on disk, by index, as `--job=encode` writes them.

A cache is a folder of shards (see `shards.py`) with the conditions of its spec
and either `mean` and `std` of each image's latents, of which every epoch draws
another sample, or one `sample`, or only `mean`; `mean_flipped`, ... are those
of the mirrored images. They are stored as the encoder gives them: (z - shift) ·
scale is what is trained on. manifest.json records what they are of, and whether
they are finished; captions.json has the captions of all images, if any.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.captioned import Captioned, with_text
from flowdistill.datasets.shard_manifest import digest_of, manifest_of
from flowdistill.datasets.shards import (
  MANIFEST,
  Arrays,
  Rows,
  checksums_of,
  read_shard,
  sizes_of,
)
from flowdistill.datasets.texts import Text
from flowdistill.files.json_reader import fields, read_json, refuse
from flowdistill.files.paths import expand
from flowdistill.flow.spec import DataSpec

CAPTIONS = 'captions.json'
FORMAT = 'flowdistill latents 1'
MEAN, STD, SAMPLE, FLIPPED = 'mean', 'std', 'sample', '_flipped'
STORED = ([MEAN, STD], [SAMPLE], [MEAN])
DTYPES = ('float32', 'float16')
SCHEMA = {
  'spec': dict,
  'pictures': list,
  'count': int,
  'shard_size': int,
  'stored': list,
  'flips': bool,
  'dtype': str,
  'space': dict,
  'finished': bool,
}
HOW = 'make them by --job=encode'


def latents(
  *,
  path: str = '',
  flip: bool = False,
  sample: bool = True,
  verify: bool = True,
  text: Text | None = None,
) -> 'Latents | Captioned':
  """The latents in a folder that `--job=encode` has written.

  Args:
    path: of the folder; in a config also 'stage:NAME', an earlier stage that
      encodes.
    flip: whether a random half of the training examples are mirrored images;
      the cache must have been made with `flips`.
    sample: whether training sees samples of what the encoder says; else it
      sees their means, of which the cache must have some.
    verify: whether all files are hashed when the cache is opened; else only
      their presence and their sizes are checked.
    text: what makes conditions of the captions (see `texts.py`), if those of
      the images were none; None for no such conditions.

  Raises:
    ValueError: if it is no cache, is not finished, or a file is missing or was
      changed.
  """
  if not path:
    raise ValueError(f"path = '' must be a folder of latents: {HOW}")
  folder = expand(path, f'path = {path!r}')
  try:
    manifest = read_manifest(folder)
    check_whole(folder, manifest)
    if flip and not manifest['flips']:
      raise ValueError(
        'it has no mirrored images, which flip = True needs: make another '
        'cache with flips=True'
      )
    if not sample and MEAN not in manifest['stored']:
      raise ValueError(
        'it has samples alone, no means, which sample = False needs: make '
        'another cache with sample=False'
      )
    found = Latents(folder, manifest, flip=flip, sample=sample, verify=verify)
  except ValueError as error:
    raise ValueError(f'path = {path!r}: {error}') from error
  return with_text(found, text)


class Latents:
  """The latents of images by index, with random access.

  Args:
    folder: of the cache.
    manifest: of it.
    flip: see `latents`.
    sample: see `latents`.
    verify: see `latents`.

  Attributes:
    spec: of the latents.
    pictures: the shape of the images.
    manifest: what the cache is of.
    captions: of the images, None without any.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    manifest: Mapping[str, Any],
    *,
    flip: bool,
    sample: bool,
    verify: bool,
  ):
    self.manifest, self.flip, self.sample = manifest, flip, sample
    self.spec = DataSpec.of(manifest['spec'])
    self.pictures = tuple(manifest['pictures'])
    self.captions = None
    if manifest.get('captions'):
      self.captions = read_json(folder / CAPTIONS, list)
    names = [*self._names(''), *(self._names(FLIPPED) if flip else [])]
    sizes = sizes_of(manifest['count'], manifest['shard_size'])
    wanted = {*names, *self.spec.cond}
    shards = [
      checked(
        read_shard(folder, k, names=wanted, verify=verify),
        self.spec,
        manifest,
        names,
        size,
      )
      for k, size in enumerate(sizes)
    ]
    self._rows = Rows(sizes, shards.__getitem__)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
    """The mean of one example for an int, of a batch for an array of ints [b].

    Of a cache of samples, the sample.
    """
    first, *_ = self._names('')
    rows = self._rows.take(index, [first])
    return {'x0': scaled(rows[first], self.manifest), **self.conditions(index)}

  def stored(self, index: Any) -> dict[str, np.ndarray]:
    """The arrays of the examples `index` [b] as they are in the cache."""
    return self._rows.take(index, self._names(''))

  def conditions(self, index: Any) -> dict[str, np.ndarray]:
    """The conditions of the examples `index` [b]."""
    return self._rows.take(index, [*self.spec.cond])

  def draw(
    self, index: np.ndarray, epoch: np.ndarray, seed: int
  ) -> dict[str, np.ndarray]:
    """mean + std · noise, and the mirrored image or not, of each example.

    Without `sample` it is the mean. Both are functions of (seed, epoch, index).

    Args:
      index: of the examples, [b].
      epoch: of each, [b].
      seed: of the run.
    """
    x0 = np.empty((len(index), *self.spec.shape), np.float32)
    mirrored = np.zeros(len(index), bool)
    for k, key in enumerate(zip(epoch.tolist(), index.tolist(), strict=True)):
      rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
      x0[k] = rng.standard_normal(self.spec.shape, np.float32)  # the noise
      mirrored[k] = self.flip and rng.random() < 0.5
    for end, here in (('', ~mirrored), (FLIPPED, mirrored)):
      if here.any():
        names = self._names(end)
        rows = self._rows.take(index[here], names)
        first, *std = (rows[name] for name in names)
        x0[here] = first + std[0] * x0[here] if std and self.sample else first
    return {'x0': scaled(x0, self.manifest), **self.conditions(index)}

  def _names(self, end: str) -> list[str]:
    return [f'{name}{end}' for name in self.manifest['stored']]


def scaled(z: np.ndarray, manifest: Mapping[str, Any]) -> np.ndarray:
  """(z - shift) · scale of latents [b, h, w, c], float32."""
  shift, scale = (
    np.asarray(manifest[key], np.float32) for key in ('shift', 'scale')
  )
  return (z.astype(np.float32) - shift) * scale


def checked(
  rows: Arrays,
  spec: DataSpec,
  manifest: Mapping[str, Any],
  names: Sequence[str],
  size: int,
) -> Arrays:
  """The arrays of a shard that are read.

  Raises:
    ValueError: if one is missing, or of another shape or dtype.
  """
  wanted = dict.fromkeys(names, (manifest['dtype'], spec.shape))
  wanted |= {name: (c.dtype, c.shape) for name, c in spec.cond.items()}
  for name, (dtype, shape) in wanted.items():
    expected = f'{dtype} {[size, *shape]}'
    if name not in rows:
      raise ValueError(f'a shard has no {name}, which must be {expected}')
    if (kind := f'{rows[name].dtype} {[*rows[name].shape]}') != expected:
      raise ValueError(f'a shard has {name} = {kind}, which must be {expected}')
  return {name: rows[name] for name in wanted}


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """The manifest of a cache.

  Raises:
    ValueError: if there is none, or it has another format.
  """
  path = folder / MANIFEST
  missing = f'it is no folder of latents, as there is no {MANIFEST} in it'
  manifest = manifest_of(folder, f'{missing}: {HOW}', FORMAT)
  fields(manifest, SCHEMA, path)
  try:
    right = is_possible(manifest)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    refuse(path, f'has a value that cannot be read: {error!r}', error)
  if not right:
    refuse(path, 'has values that --job=encode does not write')
  return manifest


def is_possible(manifest: Mapping[str, Any]) -> bool:
  """Whether the values of a manifest fit each other."""
  channels = DataSpec.of(manifest['spec']).shape[-1:]
  for key in ('scale', 'shift'):
    numbers = np.asarray(manifest[key], np.float32)
    if numbers.shape not in ((), channels) or not np.isfinite(numbers).all():
      return False
  counts = manifest['count'], manifest['shard_size'], *manifest['pictures']
  return (
    all(type(n) is int and n > 0 for n in counts)
    and manifest['stored'] in STORED
    and manifest['dtype'] in DTYPES
  )


def check_whole(folder: pathlib.Path, manifest: Mapping[str, Any]) -> None:
  """Raises ValueError unless the cache is finished, and its lists are as then.

  The lists are the files with the checksums of the others.
  """
  sizes = sizes_of(manifest['count'], manifest['shard_size'])
  if not manifest['finished']:
    done = sum(checksums_of(folder, k).is_file() for k in range(len(sizes)))
    raise ValueError(
      f'the latents are not finished, {done} of {len(sizes)} shards are there: '
      'run --job=encode again, which keeps them'
    )
  paths = [checksums_of(folder, k) for k in range(len(sizes))]
  paths += [folder / CAPTIONS] if manifest.get('captions') else []
  for path in paths:
    if not path.is_file():
      raise ValueError(f'{path} is missing: run --job=encode again')
  if digest_of(paths) != manifest.get('lists'):
    raise ValueError(
      f'one of the files {paths[0].name} ... {paths[-1].name} is not the one '
      'that --job=encode wrote: restore it, or remove the folder and encode '
      'the images again'
    )
