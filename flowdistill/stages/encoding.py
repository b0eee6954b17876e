"""Writes the latents of images in shards, which the hosts divide."""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.config.files import differences
from flowdistill.datasets.latents import (
  CAPTIONS,
  FLIPPED,
  FORMAT,
  MANIFEST,
  MEAN,
  SAMPLE,
  STD,
  digest_of,
  read_manifest,
  sizes_of,
  write_manifest,
)
from flowdistill.datasets.shards import checksums_of
from flowdistill.files.atomic import write_atomically
from flowdistill.files.json_reader import signed
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.pairing import POLL, Arrays, missing, write_shards
from flowdistill.stages.provenance import revision
from flowdistill.stages.space import about_space, check_space, with_new_options
from flowdistill.training.json_files import jsonable
from flowdistill.training.watchdog import Watchdog
from flowdistill.workdir.folders import LATENTS
from flowdistill.workdir.lock import locked
from flowdistill.workdir.record import (
  check_data,
  check_unchanged,
  keep_record,
)
from flowdistill.workdir.results import say

AT_ONCE = 64  # images that are read at once, or more in whole batches
FROM_UINT8 = 'x / 127.5 - 1'
MUTABLE = ('finished', 'code', 'lists', 'captions')
"""Keys of a manifest that are not compared when a cache is continued."""


@dataclasses.dataclass(frozen=True)
class Work:
  """The shards of a cache.

  Attributes:
    count: number of images.
    shard_size: images of a shard.
    rows: images that the space encodes on each device at once.
  """

  count: int
  shard_size: int
  rows: int = 1

  @property
  def batch_size(self) -> int:
    """Images that are read at once: whole batches of all local devices."""
    whole = self.rows * jax.local_device_count()
    return min(-(-AT_ONCE // whole) * whole, self.shard_size)

  @property
  def shards(self) -> list[int]:
    """How many images each shard has."""
    return sizes_of(self.count, self.shard_size)


def check_encode(blueprints: Blueprints, name: str) -> None:
  """Checks a stage that encodes, before any device is used.

  Raises:
    ConfigError: if its examples are not images by index, or its space cannot
      be read, or has no noise to sample.
  """
  blueprint = blueprints[name]
  data, key = blueprint.data, blueprint.key('dataset')
  if data.record.stream:
    raise ConfigError(
      f'config.{key} must be a data set with an index, and this is a stream'
    )
  if data.record.pictures or len(data.spec.shape) != 3:
    raise ConfigError(
      f'config.{key} must have images, and its examples are {data.spec}'
    )
  check_space(blueprint)
  if blueprint.stage.sample and blueprint.space.moments is None:
    raise ConfigError(
      f'config.{blueprint.key("sample")} has no effect: an image has one '
      f'encoding in the space {blueprint.spec["space"]["name"]!r}'
    )


def encode_stage(
  blueprints: Blueprints, name: str, dog: Watchdog, extras: Any = None
) -> pathlib.Path:
  """Encodes the images of a stage in W/<stage>/latents."""
  del extras
  blueprint = blueprints[name]
  folder = blueprint.folder
  check_unchanged(blueprint.spec, folder)
  check_data(folder, blueprint.data.actual)
  if jax.process_index() == 0:
    keep_record(folder, blueprint.spec, blueprint.data.actual)
  return encode(blueprint, folder / LATENTS, dog)


def encode(
  blueprint: Blueprint, out: pathlib.Path, dog: Watchdog
) -> pathlib.Path:
  """Writes the missing shards, and marks the cache finished.

  Raises:
    ConfigError: if the folder has other latents, or another job writes to it.
  """
  name, work = blueprint.name, work_of(blueprint)
  with locked(out, 'encode'), dog.busy('encoding'):
    manifest = manifest_of(blueprint)
    if begin(out, manifest) and not missing(work, out):
      say(f'{name}: finished before ({out})')
      return out
    write_shards(name, work, out, functools.partial(latents_of, blueprint))
    while missing(work, out):
      time.sleep(POLL)
    if jax.process_index() == 0:
      finish(blueprint, out, manifest)
      say(f'{name}: the latents of {work.count} images are in {out}')
    while not read_manifest(out)['finished']:
      time.sleep(POLL)
  return out


def work_of(blueprint: Blueprint) -> Work:
  """The shards that a stage writes."""
  count = len(blueprint.data)
  rows = blueprint.spec['space'].get('batch_size', 1)
  return Work(count, min(count, blueprint.stage.shard_size), rows)


def manifest_of(blueprint: Blueprint) -> dict[str, Any]:
  """All that determines the latents, and the revision of this code."""
  stage, data = blueprint.stage, blueprint.data
  stored = [SAMPLE] if stage.sample else [MEAN, STD]
  return {
    'spec': blueprint.sees.to_json(),
    'pictures': data.spec.shape,
    'count': len(data),
    'shard_size': work_of(blueprint).shard_size,
    'stored': [MEAN] if blueprint.space.moments is None else stored,
    'seed': stage.seed if stage.sample else None,
    'flips': stage.flips,
    'dtype': stage.dtype,
    **about_space(blueprint),
    'from_uint8': FROM_UINT8,
    'resize': blueprint.spec['dataset'].get('resize'),
    'dataset': data.identity,
    'code': revision(),
  }


def begin(out: pathlib.Path, manifest: dict[str, Any]) -> bool:
  """Whether the latents in a folder are finished; else prepares the folder.

  Raises:
    ConfigError: if the folder has others.
  """
  out.mkdir(parents=True, exist_ok=True)
  if not (out / MANIFEST).is_file():
    if jax.process_index() == 0:
      write_manifest(out, {'finished': False, **jsonable(manifest)})
    return False
  old = with_new_options(read_manifest(out))
  wanted = {'format': FORMAT, **jsonable(manifest)}
  keys = [key for key in {**old, **wanted} if key not in MUTABLE]
  was, now = ({k: each.get(k) for k in keys} for each in (old, wanted))
  if lines := differences(was, now):
    text = '; '.join(lines).replace('config.', '')
    raise ConfigError(
      f'{out} holds other latents: {text}. Take another folder, or remove it'
    )
  return old['finished']


def latents_of(blueprint: Blueprint, first: int, n: int) -> Arrays:
  """The arrays of the images `first` to `first` + n − 1."""
  index = np.arange(first, first + n)
  rows = blueprint.data[index]
  images = {'': rows['x0']}
  if blueprint.stage.flips:
    images[FLIPPED] = rows['x0'][:, :, ::-1]
  arrays = {name: rows[name] for name in blueprint.sees.cond}
  for number, (end, x) in enumerate(images.items()):
    for name, array in encoded(blueprint, x, index, number).items():
      arrays[f'{name}{end}'] = stored(array, blueprint.stage.dtype, index)
  return arrays


def encoded(
  blueprint: Blueprint, x: np.ndarray, index: np.ndarray, number: int
) -> Arrays:
  """What is stored of images [b, h, w, c]; `number` is 1 of mirrored ones."""
  space, stage = blueprint.space, blueprint.stage
  if space.moments is None:
    return {MEAN: np.asarray(space.encode(x))}
  mean, std = map(np.asarray, space.moments(x))
  if not stage.sample:
    return {MEAN: mean, STD: std}
  noise = [
    np.random.default_rng([stage.seed, number, i]).standard_normal(
      mean.shape[1:], np.float32
    )
    for i in index.tolist()
  ]
  return {SAMPLE: mean + std * np.stack(noise)}


def stored(array: np.ndarray, dtype: str, index: np.ndarray) -> np.ndarray:
  """An array in the dtype of a cache.

  Raises:
    ConfigError: if it has values that are not finite there.
  """
  with np.errstate(over='ignore'):
    array = array.astype(dtype)
  finite = np.isfinite(array).reshape(len(array), -1).all(-1)
  if not finite.all():
    raise ConfigError(
      f'the latents of image {index[~finite][0]} are not finite in {dtype}: '
      'are these the weights of the space, and is its dtype wide enough?'
    )
  return array


def finish(
  blueprint: Blueprint, out: pathlib.Path, manifest: dict[str, Any]
) -> None:
  """Writes the captions, and a manifest that says what is there."""
  work, data = work_of(blueprint), blueprint.data
  captions = data.captions(np.arange(work.count))
  paths = [checksums_of(out, k) for k in range(len(work.shards))]
  if captions is not None:
    text = json.dumps(captions, ensure_ascii=False, indent=0)
    write_atomically(out / CAPTIONS, signed(text))
    paths.append(out / CAPTIONS)
  end = {'captions': captions is not None, 'lists': digest_of(paths)}
  write_manifest(out, {'finished': True, **jsonable(manifest), **end})
