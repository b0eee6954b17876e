"""Images per second from a folder, compared with a plain PyTorch DataLoader.

  python tests/datasets/speed.py --pictures 2000 --size 64

writes JPEGs of 178 x 218 (the size of CelebA's), crops of scikit-learn's sample
photographs, and reads all of them with each, in alternating turns. Both decode,
crop and scale with Pillow, and yield float32 batches of 128. Between two turns
nothing is read, so that no turn pays for the read-ahead of another. Needs the
extra `torch`.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import numpy as np
import PIL.Image
import torch
from sklearn.datasets import load_sample_images

from flowdistill.datasets.folder import folder
from flowdistill.datasets.images import RESIZES, to_unit
from flowdistill.datasets.pipeline import make_batches

BATCH = 128
REST = 2.0  # seconds


class Plain(torch.utils.data.Dataset):
  """What a user would write."""

  def __init__(self, path, size):
    self.names, self.size = sorted(path.iterdir()), size

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    with PIL.Image.open(self.names[index]) as image:
      image = RESIZES['centre_crop'](image.convert('RGB'), self.size)
    return torch.from_numpy(to_unit(np.asarray(image)).transpose(2, 0, 1))


def write(path, count):
  photographs = load_sample_images().images
  rng = np.random.default_rng(0)
  for k in range(count):
    photograph = photographs[k % len(photographs)]
    top, left = (rng.integers(n - m) for n, m in ((427, 218), (640, 178)))
    crop = photograph[top : top + 218, left : left + 178]
    PIL.Image.fromarray(crop).save(path / f'{k:06d}.jpg', quality=90)


def ours(path, size, count):
  source = folder(path=str(path), size=size)
  batches = make_batches(source, batch_size=BATCH, seed=0)
  return sum(len(next(batches)['x0']) for _ in range(count // BATCH))


def theirs(path, size, count):
  loader = torch.utils.data.DataLoader(
    Plain(path, size), BATCH, shuffle=True, num_workers=2, drop_last=True
  )
  return sum(len(batch) for batch in loader)


def speed(read, path, options):
  """Images per second, after a rest."""
  time.sleep(REST)
  start = time.perf_counter()
  n = read(path, options.size, options.pictures)
  return n / (time.perf_counter() - start)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--pictures', type=int, default=2000)
  parser.add_argument('--size', type=int, default=64)
  parser.add_argument('--turns', type=int, default=9)
  options = parser.parse_args()
  ratios = []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    write(path, options.pictures)
    for turn in range(options.turns):
      us, them = (speed(read, path, options) for read in (ours, theirs))
      ratios.append(us / them)
      print(
        f'{turn}: flowdistill {us:.0f} images/s, DataLoader {them:.0f} '
        f'images/s, ratio {us / them:.2f}'
      )
  print(f'median of the ratios: {statistics.median(ratios):.2f}')


if __name__ == '__main__':
  main()
