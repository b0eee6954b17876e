"""A small cache of latents, as `--job=encode` writes it."""

import json

import numpy as np

from flowdistill.datasets.latents import CAPTIONS, FORMAT, digest_of
from flowdistill.datasets.shards import (
  checksums_of,
  sizes_of,
  write_manifest,
  write_shard,
)
from flowdistill.files.json_reader import signed
from flowdistill.flow.spec import DataSpec

SPEC = DataSpec.labelled((2, 3, 4), 3, ['a', 'b', 'c'])
COUNT, SHARD = 25, 10
ROWS = np.random.default_rng(0)
SCALE, SHIFT = [0.5, 1.0, 2.0, 4.0], 0.25


def rows_of(names):
  shape = (COUNT, *SPEC.shape)
  rows = {name: ROWS.normal(size=shape).astype('f4') for name in names}
  rows |= {n: np.abs(a) for n, a in rows.items() if n.startswith('std')}
  return rows | {'label': (np.arange(COUNT) % 3).astype(np.int32)}


def write(folder, stored=('mean', 'std'), *, flips=False, **more):
  """Writes a cache; returns its arrays."""
  names = [f'{n}{end}' for n in stored for end in ('', '_flipped')[: 1 + flips]]
  rows = rows_of(names)
  for k, size in enumerate(sizes_of(COUNT, SHARD)):
    part = {n: a[k * SHARD : k * SHARD + size] for n, a in rows.items()}
    write_shard(folder, k, size, [part])
  paths = [checksums_of(folder, k) for k in range(3)]
  if captions := more.pop('captions', None):
    (folder / CAPTIONS).write_bytes(signed(json.dumps(captions)))
    paths.append(folder / CAPTIONS)
  manifest = {
    'format': FORMAT,
    'finished': True,
    'spec': SPEC.to_json(),
    'pictures': [16, 24, 3],
    'count': COUNT,
    'shard_size': SHARD,
    'stored': list(stored),
    'flips': flips,
    'dtype': 'float32',
    'space': {'name': 'kl'},
    'scale': SCALE,
    'shift': SHIFT,
    'captions': captions is not None,
    'lists': digest_of(paths),
  }
  write_manifest(folder, {**manifest, **more})
  return rows


def scaled(z):
  return (z - np.float32(SHIFT)) * np.float32(SCALE)
