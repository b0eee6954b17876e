"""Writes the encoded captions of a data set in shards, which hosts divide."""

import functools
import io
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, located
from flowdistill.datasets.caption_cache import (
  FORMAT,
  KEY,
  MASK,
  POOLED,
  SIZE,
  TEXT,
  digest_of_encoder,
  in_dtype,
  key_of,
  lists_of,
  null_of,
  read_manifest,
)
from flowdistill.datasets.shards import digest_of_rows, sizes_of
from flowdistill.datasets.texts import shortened
from flowdistill.files.atomic import write_atomically
from flowdistill.stages.provenance import revision
from flowdistill.stages.shards import Arrays, Store, fill
from flowdistill.training.watchdog import Watchdog

AT_ONCE = 64  # captions


def check_captions(blueprint: Blueprint) -> None:
  """Checks a stage with a text encoder, before any device is used.

  Raises:
    ConfigError: if its examples have no captions, or files are missing.
  """
  key = blueprint.key('text_encoder')
  if blueprint.spec['space']['name'] != 'pixels':
    raise ConfigError(
      f'config.{blueprint.key("space")} has no effect on captions: encode the '
      'images in another stage'
    )
  if blueprint.data.captions(np.arange(0)) is None:
    raise ConfigError(
      f'config.{key} has no effect: the examples of '
      f'config.{blueprint.key("dataset")} have no captions'
    )
  with located(key, blueprint.spec['text_encoder']):
    blueprint.stage.text_encoder().check()


def encode_captions(
  blueprint: Blueprint, out: pathlib.Path, dog: Watchdog
) -> pathlib.Path:
  """Writes the missing shards, and marks the cache finished.

  Raises:
    ConfigError: if the folder has other captions, another job writes to it, or
      the encoder cannot be read, or does not take a caption.
  """
  key = blueprint.key('text_encoder')
  with located(key, blueprint.spec['text_encoder']):
    return fill(_store(blueprint, out), dog)


def _store(blueprint: Blueprint, out: pathlib.Path) -> Store:
  """What is written."""
  encoder = blueprint.stage.text_encoder()
  data = blueprint.data
  given = data.captions(np.arange(len(data))) or []
  captions = [*dict.fromkeys(['', *given])]
  about = encoder.about()
  digest = digest_of_encoder(about)
  shard_size = min(blueprint.stage.shard_size, len(captions))
  dtype = blueprint.stage.dtype
  manifest = {
    'captions_sha256': digest_of_rows(key_of(digest, c) for c in captions),
    'count': len(captions),
    'shard_size': shard_size,
    'length': encoder.length,
    'masked': encoder.masked,
    'dtype': dtype,
    'encoder': about,
    'encoder_sha256': digest,
  }
  return Store(
    name=blueprint.name,
    what='captions',
    job='encode',
    out=out,
    sizes=sizes_of(len(captions), shard_size),
    batch_size=min(AT_ONCE, shard_size),
    make=functools.partial(arrays_of, encoder, captions, digest, dtype),
    form=FORMAT,
    manifest=manifest,
    also={
      'options': blueprint.spec['text_encoder'],
      'dataset': data.identity,
      'code': revision(),
    },
    ragged=functools.partial(rows_of, encoder, captions),
    read=lambda: read_manifest(out),
    end=lambda: {
      'null': nulls(encoder, dtype, out),
      'lists': lists_of(out, len(captions), shard_size),
    },
  )


def kept(encoder: Any, sizes: Sequence[int]) -> list[int]:
  """The rows of `text` of captions with so many tokens."""
  length = encoder.length
  return [min(size, length) if encoder.masked else length for size in sizes]


def rows_of(
  encoder: Any, captions: Sequence[str], first: int, n: int
) -> dict[str, int]:
  """The rows of `text` of n captions."""
  sizes = encoder.sizes(captions[first : first + n])
  return {TEXT: sum(kept(encoder, sizes))}


def arrays_of(
  encoder: Any,
  captions: Sequence[str],
  digest: str,
  dtype: str,
  first: int,
  n: int,
) -> Arrays:
  """What is stored of the captions `first` to `first` + n − 1."""
  some = captions[first : first + n]
  sizes, found = encoder.sizes(some), encoder.encode(some)
  rows = [
    text[:count]
    for text, count in zip(found[TEXT], kept(encoder, sizes), strict=True)
  ]
  keys = b''.join(key_of(digest, caption) for caption in some)
  made = {
    KEY: np.frombuffer(keys, np.uint8).reshape(len(some), -1),
    SIZE: np.asarray(sizes, np.int32),
    TEXT: np.concatenate(rows),
  }
  if POOLED in found:
    made[POOLED] = found[POOLED]
  check_finite(some, rows, found, dtype)
  with np.errstate(over='ignore'):
    return {
      name: array.astype(dtype) if name in (TEXT, POOLED) else array
      for name, array in made.items()
    }


def check_finite(
  captions: Sequence[str],
  rows: Sequence[np.ndarray],
  found: Arrays,
  dtype: str,
) -> None:
  """Refuses encodings that are not finite.

  Raises:
    ConfigError: naming the caption.
  """
  pooled = found.get(POOLED, itertools.repeat(np.zeros(1)))
  for caption, *arrays in zip(captions, rows, pooled, strict=False):
    with np.errstate(over='ignore'):
      finite = all(np.isfinite(a.astype(dtype)).all() for a in arrays)
    if not finite:
      raise ConfigError(
        f'the encoding of {shortened(caption)} is not finite in {dtype}: are '
        'these the weights of the text encoder, and is its dtype wide enough?'
      )


def nulls(encoder: Any, dtype: str, out: pathlib.Path) -> dict[str, Any]:
  """Name of a condition -> its null: a number, or the SHA-256 of its file."""
  found = in_dtype(encoder.encode(['']), dtype)
  if encoder.masked:
    rows = found[MASK][0]
    found[TEXT][0, ~rows] = 0
  return {name: null(array[0], name, out) for name, array in found.items()}


def null(array: np.ndarray, name: str, out: pathlib.Path) -> Any:
  """The only number of an array, or the SHA-256 of the file with it."""
  first = array.reshape(-1)[0]
  if (array == first).all():
    return first.item()
  file = io.BytesIO()
  np.save(file, array, allow_pickle=False)
  write_atomically(out / null_of(name), file.getvalue())
  return digest_of_rows([file.getvalue()])
