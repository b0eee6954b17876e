"""Writes latents of images, or captions, in shards, which the hosts divide."""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.latents import (
  CAPTIONS,
  FLIPPED,
  FORMAT,
  MEAN,
  SAMPLE,
  STD,
  read_manifest,
)
from flowdistill.datasets.shard_manifest import digest_of
from flowdistill.datasets.shards import checksums_of, sizes_of
from flowdistill.files.atomic import write_atomically
from flowdistill.files.json_reader import signed
from flowdistill.stages import captions as texts
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.provenance import revision
from flowdistill.stages.shards import Arrays, Store, begin_stage, fill
from flowdistill.stages.space import about_space, check_space, with_new_options
from flowdistill.training.watchdog import Watchdog
from flowdistill.workdir import folders

AT_ONCE = 64  # images that are read at once, or more in whole batches
FROM_UINT8 = 'x / 127.5 - 1'


def check_encode(blueprints: Blueprints, name: str) -> None:
  """Checks a stage that encodes, before any device is used.

  Raises:
    ConfigError: if its examples are not images by index, or its space cannot
      be read, or has no noise to sample.
  """
  blueprint = blueprints[name]
  data, key = blueprint.data, blueprint.key('dataset')
  if blueprint.stage.text_encoder is not None and not data.record.stream:
    texts.check_captions(blueprint)
    return
  if data.record.stream:
    raise ConfigError(
      f'config.{key} must be a data set with an index, and this is a stream'
    )
  if data.record.pictures or len(data.spec.shape) != 3:
    raise ConfigError(
      f'config.{key} must have images, and its examples are {data.spec}'
    )
  if data.buckets:
    raise ConfigError(
      f'config.{key}.buckets must be None: latents of one shape are written'
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
  """Encodes the images of a stage in W/<stage>/latents, or its captions."""
  del extras
  blueprint = blueprints[name]
  begin_stage(blueprint)
  if blueprint.stage.text_encoder is not None:
    out = blueprint.folder / folders.CAPTIONS
    return texts.encode_captions(blueprint, out, dog)
  return encode(blueprint, blueprint.folder / folders.LATENTS, dog)


def encode(
  blueprint: Blueprint, out: pathlib.Path, dog: Watchdog
) -> pathlib.Path:
  """Writes the missing shards, and marks the cache finished.

  Raises:
    ConfigError: if the folder has other latents, or another job writes to it.
  """
  manifest = manifest_of(blueprint)
  sizes = sizes_of(manifest['count'], manifest['shard_size'])
  store = Store(
    name=blueprint.name,
    what='latents',
    job='encode',
    out=out,
    sizes=sizes,
    batch_size=at_once(blueprint, sizes[0]),
    make=functools.partial(latents_of, blueprint),
    form=FORMAT,
    manifest=manifest,
    also={'code': revision()},
    read=lambda: with_new_options(read_manifest(out)),
    end=lambda: lists(blueprint, out, sizes),
  )
  return fill(store, dog)


def at_once(blueprint: Blueprint, most: int) -> int:
  """Images that are read at once: whole batches of all local devices."""
  rows = blueprint.spec['space'].get('batch_size', 1)
  whole = rows * jax.local_device_count()
  return min(-(-AT_ONCE // whole) * whole, most)


def lists(
  blueprint: Blueprint, out: pathlib.Path, sizes: Sequence[int]
) -> dict[str, Any]:
  """Writes the captions; the hash of all lists of files."""
  captions = blueprint.data.captions(np.arange(sum(sizes)))
  paths = [checksums_of(out, k) for k in range(len(sizes))]
  if captions is not None:
    text = json.dumps(captions, ensure_ascii=False, indent=0)
    write_atomically(out / CAPTIONS, signed(text))
    paths.append(out / CAPTIONS)
  return {'captions': captions is not None, 'lists': digest_of(paths)}


def manifest_of(blueprint: Blueprint) -> dict[str, Any]:
  """All that determines the latents."""
  stage, data = blueprint.stage, blueprint.data
  stored = [SAMPLE] if stage.sample else [MEAN, STD]
  return {
    'spec': blueprint.sees.to_json(),
    'pictures': data.spec.shape,
    'count': len(data),
    'shard_size': min(len(data), stage.shard_size),
    'stored': [MEAN] if blueprint.space.moments is None else stored,
    'seed': stage.seed if stage.sample else None,
    'flips': stage.flips,
    'dtype': stage.dtype,
    **about_space(blueprint),
    'from_uint8': FROM_UINT8,
    'resize': blueprint.spec['dataset'].get('resize'),
    'dataset': data.identity,
  }


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
