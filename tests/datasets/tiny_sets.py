"""Every data set of captioned pictures in files, small."""

import pathlib
import tempfile

import pyarrow.parquet as pq
from datasets.tiny_columns import save, table
from datasets.tiny_shards import png, write

from flowdistill.datasets import DATASETS
from flowdistill.datasets.index_files import make_index

INDEXED = ('webdataset', 'parquet', 'hugging_face')
SETS = ('stream', *INDEXED)


def write_set(folder, name, captions):
  """Writes picture k with captions[k]; the options that open them."""
  numbers = range(len(captions))
  if name == 'parquet':
    pq.write_table(table(numbers, captions), folder / 'a.parquet')
    return {'name': name, 'path': str(folder / 'a.parquet'), 'size': 8}
  if name == 'hugging_face':
    path = save(folder / 'saved', [len(captions)], captions=captions)
    return {'name': name, 'path': str(path), 'size': 8}
  members = []
  for k, caption in enumerate(captions):
    members.append((f'{k:04d}.png', png(k)))
    if caption is not None:
      members.append((f'{k:04d}.txt', caption.encode()))
  shard = write(folder / f'{name}.tar', members)
  options = {'name': 'webdataset', 'path': str(shard), 'size': 8}
  if name == 'stream':
    count = len(captions)
    return {**options, 'index': False, 'num_samples': count, 'buffer': count}
  make_index(str(shard))
  return options


def open_set(folder, name, captions, **options):
  """The data set `name` of picture k with captions[k].

  Its folder is its own: threads that fetch batches of an earlier one may still
  read there, and a mapped file that is written anew ends a process.
  """
  own = pathlib.Path(tempfile.mkdtemp(dir=folder))
  given = write_set(own, name, captions) | options
  return DATASETS[given.pop('name')](**given)


def number_of(x):
  """The number of a picture."""
  return round((float(x[0, 0, 0]) + 1) * 127.5)
