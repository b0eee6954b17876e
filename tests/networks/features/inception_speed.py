"""Features per second of our Inception and of torch-fidelity's, in turns.

  PYTHONPATH=tests python tests/networks/features/inception_speed.py

On the same random images of 32 x 32 and the same random weights, from uint8 to
features: the median of five turns of one batch of 32, and the largest
difference relative to the largest feature.
"""

import pathlib
import statistics
import tempfile
import time

import numpy as np
import torch
from networks.features.test_inception import randomised

from flowdistill.build.features import BATCH, load_features

TURNS = 5


def measure() -> None:
  theirs = randomised()
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / 'inception.pth'
    torch.save(theirs.state_dict(), file)
    ours = load_features('inception', str(file))
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
  channels_first = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  seconds = {'flowdistill': [], 'torch-fidelity': []}
  for turn in range(TURNS + 1):  # the first one compiles
    start = time.perf_counter()
    found = ours(images)['pool3']
    middle = time.perf_counter()
    with torch.no_grad():
      expected = theirs(channels_first)[theirs.features_list.index('2048')]
    end = time.perf_counter()
    if turn:
      seconds['flowdistill'].append(middle - start)
      seconds['torch-fidelity'].append(end - middle)
  rates = {n: BATCH / statistics.median(s) for n, s in seconds.items()}
  for name, rate in rates.items():
    turns = ', '.join(f'{BATCH / s:.2f}' for s in seconds[name])
    print(f'{name}: {rate:.2f} images/s; turns {turns}')
  print(f'ratio: {rates["flowdistill"] / rates["torch-fidelity"]:.2f}')
  error = np.abs(found - expected.numpy()).max() / np.abs(found).max()
  print(f'largest difference: {error:.1e}')


if __name__ == '__main__':
  measure()
