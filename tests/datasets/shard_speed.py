"""Captioned pictures per second from tar shards, compared with webdataset.

  python tests/datasets/shard_speed.py --pictures 1000 --size 256

writes JPEGs of 320 x 288, crops of scikit-learn's sample photographs, with
captions into shards, and reads all of them by index, as a stream, and by
webdataset in a PyTorch DataLoader of two workers, in alternating turns. All
decode, crop and scale with Pillow in the same way, and yield float32 batches of
64. Last, rows of 32 x 32 x 4 are read from an .npy by the same pipeline. Needs
the extra `torch`.
"""

import argparse
import io
import pathlib
import statistics
import tempfile
import time

import numpy as np
import PIL.Image
import torch
import webdataset as wds
from sklearn.datasets import load_sample_images

from flowdistill.datasets.arrays import arrays
from flowdistill.datasets.images import RESIZES, to_unit
from flowdistill.datasets.index_files import make_index
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.webdataset import webdataset

BATCH = 64
SHARDS = 4
REST = 1.0  # seconds
ROWS = 20_000


def write(folder, count):
  photographs = load_sample_images().images
  rng = np.random.default_rng(0)
  for shard in range(SHARDS):
    path = folder / f'{shard:06d}.tar'
    with wds.TarWriter(str(path), encoder=False) as out:
      for k in range(shard, count, SHARDS):
        photograph = photographs[k % len(photographs)]
        top, left = (rng.integers(n - m) for n, m in ((427, 288), (640, 320)))
        file = io.BytesIO()
        crop = photograph[top : top + 288, left : left + 320]
        PIL.Image.fromarray(crop).save(file, 'JPEG', quality=90)
        out.write(
          {
            '__key__': f'{k:06d}',
            'jpg': file.getvalue(),
            'txt': f'picture {k}'.encode(),
          }
        )
    make_index(str(path))


def ours(folder, options, index):
  source = webdataset(path=str(folder), size=options.size, index=index)
  batches = make_batches(source, batch_size=BATCH, seed=0)
  return sum(len(next(batches)['x0']) for _ in range(options.pictures // BATCH))


class Decode:
  """What a user would write."""

  def __init__(self, size):
    self.size = size

  def __call__(self, sample):
    with PIL.Image.open(io.BytesIO(sample['jpg'])) as image:
      image = RESIZES['centre_crop'](image.convert('RGB'), self.size)
    x = torch.from_numpy(to_unit(np.asarray(image)).transpose(2, 0, 1))
    return x, sample['txt'].decode()


def theirs(folder, options):
  shards = [str(path) for path in sorted(folder.glob('*.tar'))]
  data = wds.WebDataset(shards, shardshuffle=SHARDS).shuffle(1000)
  loader = torch.utils.data.DataLoader(
    data.map(Decode(options.size)), BATCH, num_workers=2
  )
  return sum(len(x) for x, _ in loader)


def rows(folder, options):
  del options
  source = arrays(path=str(folder / 'x0.npy'))
  batches = make_batches(source, batch_size=BATCH, seed=0)
  return sum(len(next(batches)['x0']) for _ in range(ROWS // BATCH))


def speed(read, folder, options, *more):
  """Examples per second, after a rest."""
  time.sleep(REST)
  start = time.perf_counter()
  n = read(folder, options, *more)
  return n / (time.perf_counter() - start)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--pictures', type=int, default=1000)
  parser.add_argument('--size', type=int, default=256)
  parser.add_argument('--turns', type=int, default=7)
  options = parser.parse_args()
  ratios = {'by index': [], 'as a stream': []}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write(folder, options.pictures)
    for turn in range(options.turns):
      them = speed(theirs, folder, options)
      for kind, index in (('by index', True), ('as a stream', False)):
        us = speed(ours, folder, options, index)
        ratios[kind].append(us / them)
        print(
          f'{turn}: flowdistill {kind} {us:.0f} images/s, webdataset '
          f'{them:.0f} images/s, ratio {us / them:.2f}'
        )
    for kind, found in ratios.items():
      print(
        f'{kind}: median of the ratios {statistics.median(found):.2f} '
        f'({min(found):.2f} ... {max(found):.2f})'
      )
    x0 = np.random.default_rng(0).uniform(-1, 1, (ROWS, 32, 32, 4))
    np.save(folder / 'x0.npy', x0.astype(np.float32))
    print(f'rows of an .npy: {speed(rows, folder, options):.0f} per s')


if __name__ == '__main__':
  main()
