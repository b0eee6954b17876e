"""Small tar shards: picture k is of the colour (k, 2 k mod 256, 255 - k)."""

import io
import tarfile

import numpy as np
import PIL.Image

from flowdistill.datasets.images import to_unit
from flowdistill.flow.spec import Condition

NUMBER = {'number': Condition((), 'int32')}


def colour(k):
  return k % 256, 2 * k % 256, 255 - k % 256


def png(k, size=8):
  file = io.BytesIO()
  PIL.Image.new('RGB', (size, size), colour(k)).save(file, 'PNG')
  return file.getvalue()


def x0(k, size=8):
  return to_unit(np.full((size, size, 3), colour(k), np.uint8))


def sample(k):
  """The members of sample k."""
  return [(f'{k:04d}.png', png(k)), (f'{k:04d}.txt', f'number {k}'.encode())]


def write(path, members):
  """A tar of (name, bytes), in which nothing says when it was written."""
  with tarfile.open(path, 'w') as tar:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return path


def write_shards(folder, sizes):
  """Shards a-0.tar, a-1.tar, ... of numbered samples; returns their paths."""
  paths, first = [], 0
  for shard, size in enumerate(sizes):
    numbers = range(first, first + size)
    members = [member for k in numbers for member in sample(k)]
    paths.append(write(folder / f'a-{shard}.tar', members))
    first += size
  return paths


class Numbers:
  """Encodes captions in the tests: 'number 7' -> 7."""

  conditions = NUMBER
  length, cut, unit = 2, True, 'words'

  def encode(self, captions):
    return {'number': np.asarray([int(c[7:]) for c in captions], np.int32)}

  def size(self, caption):
    return len(caption.split())

  def to_json(self):
    return {'name': 'numbers'}
