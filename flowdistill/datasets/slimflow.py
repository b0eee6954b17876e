"""Pairs in the format of SlimFlow: <root>/<seed>/{z0,z1,label}.npy.

Its `z0` is noise and its `z1` data, float32 [n, c, h, w] in [−1, 1], the
reverse of our names; `label` is integers [n], or one-hot [n, classes].

Source: https://github.com/yuanzhi-zhu/SlimFlow, generate_data.py.
"""

import os
import pathlib

import numpy as np

from flowdistill.datasets.pairs import Pairs
from flowdistill.datasets.shards import Arrays
from flowdistill.files.regular import open_regular
from flowdistill.flow.spec import DataSpec

NOISE, DATA, LABEL = 'z0.npy', 'z1.npy', 'label.npy'


def is_slimflow(root: pathlib.Path) -> bool:
  """Whether a folder holds pairs in this format."""
  return os.path.isdir(root) and any(root.glob(f'*/{NOISE}'))


def open_slimflow(root: pathlib.Path) -> Pairs:
  """The pairs of all seeds, in numerical order.

  Raises:
    ValueError: naming a file that is missing, or has another shape or dtype.
  """
  folders = sorted(
    (path.parent for path in root.glob(f'*/{NOISE}')), key=_order
  )
  parts = [read_folder(folder) for folder in folders]
  shapes = {part['x0'].shape[1:] for part in parts}
  if len(shapes) > 1:
    raise ValueError(
      f'{root} must have pairs of one shape, and has {sorted(shapes)}'
    )
  labelled = [part for part in parts if 'label' in part]
  if labelled and len(labelled) < len(parts):
    raise ValueError(
      f'{root} must have a {LABEL} in all of its folders or in none'
    )
  classes = max((_num_classes(f / LABEL) for f in folders), default=0)
  spec = DataSpec.labelled(shapes.pop(), classes)
  return Pairs(spec, [len(p['x0']) for p in parts], parts.__getitem__)


def read_folder(folder: pathlib.Path) -> Arrays:
  """`x0` and `x1` [n, h, w, c], memory-mapped, and `label` int32 [n]."""
  x0, x1 = (_images(folder / name) for name in (DATA, NOISE))
  if x0.shape != x1.shape:
    raise ValueError(
      f'{folder}: {NOISE} = {list(x1.shape)} must have the shape of {DATA}, '
      f'{list(x0.shape)}'
    )
  images = {'x0': x0, 'x1': x1}
  if not (folder / LABEL).is_file():
    return images
  label = _load(folder / LABEL)
  label = label.argmax(1) if label.ndim == 2 else label
  if label.shape != x0.shape[:1]:
    raise ValueError(
      f'{folder / LABEL} has {len(label)} rows and must have {len(x0)}'
    )
  return {**images, 'label': label.astype(np.int32)}


def _images(path: pathlib.Path) -> np.ndarray:
  array = _load(path)
  if array.ndim != 4 or array.dtype != np.float32:
    raise ValueError(
      f'{path} = {array.dtype} {list(array.shape)} must be float32 [n, c, h, w]'
    )
  return array.transpose(0, 2, 3, 1)


def _num_classes(path: pathlib.Path) -> int:
  """The columns of one-hot labels, or the largest label plus one."""
  if not path.is_file():
    return 0
  label = _load(path)
  return label.shape[1] if label.ndim == 2 else int(label.max()) + 1


def _load(path: pathlib.Path) -> np.ndarray:
  try:
    open_regular(path).close()  # a pipe would be waited for
    return np.load(path, mmap_mode='r', allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise ValueError(f'{path} cannot be read: {error}') from error


def _order(folder: pathlib.Path) -> tuple[int, int, str]:
  """Sorts numbers numerically, and names after them."""
  name = folder.name
  return (0, int(name), '') if name.isdigit() else (1, 0, name)
