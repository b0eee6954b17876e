"""Writes the data set of a config as shards, and indexes shards."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError, Spec, bind
from flowdistill.config.protocols import Dataset
from flowdistill.datasets.files import stamp_of
from flowdistill.datasets.index_files import make_index
from flowdistill.datasets.shard_paths import shard_paths
from flowdistill.datasets.shard_writer import KINDS, check_source, write_shards
from flowdistill.datasets.shards import MANIFEST, write_manifest
from flowdistill.datasets.stored_latents import ALL_KEYS, LATENTS
from flowdistill.files.atomic import remove_leftovers
from flowdistill.files.json_reader import read_json
from flowdistill.files.paths import expand

FORMATS = (*KINDS,)


def shard_dataset(
  dataset: Spec, key: str, out: pathlib.Path, *, kind: str, per_shard: int
) -> list[pathlib.Path]:
  """Writes a data set into a folder, or what is missing there.

  Args:
    dataset: its resolved config.
    key: of the data set in the config.
    out: the folder.
    kind: 'webdataset' or 'parquet'.
    per_shard: examples of a shard.

  Raises:
    ConfigError: if it has no captions or no index, or buckets, or the folder
      has something else in it.
  """
  if dataset.get('buckets') is not None:
    raise ConfigError(
      f'config.{key}.buckets must be None: pictures of one shape are written'
    )
  source = bind(dataset, Dataset, key, ROOMS)()
  try:
    check_source(source, kind)
  except ValueError as error:
    raise ConfigError(
      f'config.{key}.name = {dataset["name"]!r}: {error}'
    ) from error
  manifest = {
    'format': kind,
    'per_shard': per_shard,
    'examples': len(source),
    'dataset': dataset,
    'files': stamps(dataset),
    **about_latents(source),
  }
  manifest = json.loads(json.dumps(manifest, default=str))
  prepare(out, manifest)
  paths = write_shards(source, out, kind=kind, per_shard=per_shard)
  logging.info('%d examples in %d shards: %s', len(source), len(paths), out)
  return paths


def about_latents(source: Any) -> dict[str, Any]:
  """What a manifest of shards says of latents, {} of pictures."""
  if getattr(source, 'pictures', None) is None:
    return {}
  return {LATENTS: {key: source.manifest[key] for key in ALL_KEYS}}


def stamps(dataset: Spec) -> dict[str, Any]:
  """(modification time, size) of the files that the config names."""
  texts = [v for v in dataset.values() if isinstance(v, str) and v]
  found = {text: stamp_of(expand(text, text)) for text in texts}
  return {text: stamp for text, stamp in found.items() if any(stamp)}


def prepare(out: pathlib.Path, manifest: Mapping[str, Any]) -> None:
  """Makes a folder for shards, or continues one.

  Raises:
    ConfigError: if it has other files, or shards of something else.
  """
  out.mkdir(parents=True, exist_ok=True)
  remove_leftovers(out)
  if not (out / MANIFEST).exists():
    if found := sorted(path.name for path in out.iterdir()):
      raise ConfigError(
        f'--out={out} must be an empty folder, and has {found[0]!r} in it'
      )
    write_manifest(out, manifest)
  before = read_json(out / MANIFEST)
  for name in [*dict.fromkeys([*manifest, *before])]:
    if before.get(name) != manifest.get(name):
      raise ConfigError(
        f'--out={out} has shards of another data set: {name} is '
        f'{before.get(name)!r} there, and {manifest.get(name)!r} now; name '
        'another folder'
      )


def index_shards(path: str) -> int:
  """Makes the index of every shard of a path; returns the number of samples.

  Raises:
    ConfigError: if a shard is not there, not local, cut or damaged.
  """
  try:
    counts = [len(make_index(shard)) for shard in shard_paths(path)]
  except ValueError as error:
    raise ConfigError(f'--path={path}: {error}') from error
  logging.info('%d samples in %d shards: %s', sum(counts), len(counts), path)
  return sum(counts)
