"""Pictures of three shapes in a folder, for a small `mmdit`."""

import numpy as np
from PIL import Image

SIZES = ((12, 20), (16, 16), (20, 12))


def write_pictures(folder, count=21):
  """Random pictures of the three shapes, (height, width) in turn."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  for k in range(count):
    pixels = rng.integers(0, 256, (*SIZES[k % 3], 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{k:02d}.png')
  return folder


def get_config(arg=''):
  return {
    'dataset': {
      'name': 'folder',
      'path': arg,
      'size': 16,
      'buckets': {'step': 4, 'max_ratio': 2.0},
    },
    'network': {'name': 'mmdit', 'width': 16, 'depth': 1, 'heads': 2},
    'objective': 'rectified_flow',
    'train': {'steps': 14, 'batch_size': 4},
    'optim': {'schedule': 'constant'},
    'checkpoint': {'every': 4},
    'log': {'every': 1},
  }
