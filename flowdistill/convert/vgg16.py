"""Weights of torchvision's VGG16, both ways.

Its convolutions have the names that `lpips.py` knows; of its classifier the
first two layers are read: classifier.0 sees channels before rows, ours after.

Source of the names: torchvision 0.28, `vgg16`.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert import dialects, lpips
from flowdistill.convert.dialects import Dialect, Rules
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Shapes, needed

NAMING = Naming('VGG16', r'(?:features|classifier)\.', r'classifier\.6\.')
TORCHVISION = 'torchvision'
CHANNELS = 512
HIDDEN = {'fc1': 'classifier.0', 'fc2': 'classifier.3'}
CONVOLUTIONS = {
  path: names[0]
  for path, names in lpips.RULES.items()
  if path.startswith('convs.')
}
RULES: Rules = {
  path: {
    TORCHVISION: Dialect(
      (name,), (2, 3, 1, 0) if path.endswith('kernel') else (0,)
    )
  }
  for path, name in CONVOLUTIONS.items()
} | {
  f'{ours}.{mine}': {TORCHVISION: Dialect((f'{theirs}.{its}',), axes)}
  for ours, theirs in HIDDEN.items()
  for mine, its, axes in (
    ('kernel', 'weight', (2, 3, 1, 0) if ours == 'fc1' else (1, 0)),
    ('bias', 'bias', (0,)),
  )
}
FLAT = 'classifier.0.weight'


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Raises:
    ValueError: as `dialects.read`.
  """
  grids = {
    name: _grid(array) if NAMING.bare(name) == FLAT else array
    for name, array in arrays.items()
  }
  return dialects.read(grids, shapes, RULES, NAMING)


def to_torch(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Our arrays by PyTorch's names."""
  theirs = dialects.write(arrays, RULES, TORCHVISION)
  return theirs | {FLAT: theirs[FLAT].reshape(len(theirs[FLAT]), -1)}


def wanted(names: Iterable[str]) -> list[str]:
  """The names in a file, with any known prefixes, that are read."""
  return needed(names, NAMING, ema=False)


def _grid(array: np.ndarray) -> np.ndarray:
  """[out, channels · rows · columns] -> [out, channels, rows, columns]."""
  if array.ndim != 2:
    return array  # of which the rules say that its shape is wrong
  rows = round((array.size / max(1, len(array)) / CHANNELS) ** 0.5)
  shape = (len(array), CHANNELS, rows, rows)
  return array.reshape(shape) if np.prod(shape) == array.size else array
