"""LPIPS weights of PyTorch, both ways.

The names of the convolutions have two dialects, those of the lins only one:

  torchvision  features.0.weight     of `vgg16()`; its classifier is ignored
  lpips        net.slice1.0.weight   of `LPIPS(net='vgg')`
  both         lin0.model.1.weight

This writes a file of the dialect lpips in PyTorch:

  net = lpips.LPIPS(net='vgg')
  arrays = {name: tensor.clone() for name, tensor in net.state_dict().items()}
  safetensors.torch.save_file(arrays, 'lpips.safetensors')

Source of the names: https://github.com/richzhang/PerceptualSimilarity, 0.1.4.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.prefixes import Naming

Arrays = dict[str, np.ndarray]
DIALECTS = ('torchvision', 'lpips')
# The numbers of the convolutions among VGG16's layers, by lpips' slices.
SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
CONVOLUTIONS = [
  (f'features.{layer}', f'net.slice{part}.{layer}')
  for part, layers in enumerate(SLICES, 1)
  for layer in layers
]
RULES: dict[str, tuple[str, ...]] = {
  f'convs.{i}.{ours}': (f'{torchvision}.{theirs}', f'{lpips}.{theirs}')
  for i, (torchvision, lpips) in enumerate(CONVOLUTIONS)
  for ours, theirs in (('kernel', 'weight'), ('bias', 'bias'))
} | {
  f'lins.{i}.kernel': (f'lin{i}.model.1.weight',) * 2
  for i in range(len(SLICES))
}
"""A path in our network -> its name in each dialect."""
NAMES = {name for names in RULES.values() for name in names}
NAMING = Naming('LPIPS', r'(?:features|net\.slice\d|lin\d)\.')


def wanted(names: Iterable[str]) -> list[str]:
  """The names in a file, with any known prefixes, that are read."""
  return [name for name in names if NAMING.bare(name) in NAMES]


def from_torch(
  arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Args:
    arrays: of either dialect, with any known prefixes; names that are not in
      NAMES are ignored.
    shapes: path in our network -> shape.

  Raises:
    ValueError: naming the first array that is missing or of another shape.
  """
  ours, theirs = {}, NAMING.find(arrays).params
  for path, names in RULES.items():
    name = next((name for name in names if name in theirs), None)
    if name is None:
      wanted = ' or '.join(dict.fromkeys(names))
      raise ValueError(f'these weights of LPIPS have no {wanted}')
    array = arrays[theirs[name]]
    shape = _theirs(np.empty(shapes[path], bool)).shape
    if array.shape != shape:
      raise ValueError(
        f'these weights of LPIPS have {name} of shape {list(array.shape)}; '
        f'it must be {list(shape)} for a VGG16'
      )
    ours[path] = _ours(array).astype(np.float32)
  return ours


def to_torch(arrays: Mapping[str, np.ndarray], dialect: str) -> Arrays:
  """Our arrays by PyTorch's names in a dialect."""
  i = DIALECTS.index(dialect)
  return {names[i]: _theirs(arrays[path]) for path, names in RULES.items()}


def _ours(array: np.ndarray) -> np.ndarray:
  """A kernel [out, in, h, w] as [h, w, in, out]; a bias unchanged."""
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _theirs(array: np.ndarray) -> np.ndarray:
  """A kernel [h, w, in, out] as [out, in, h, w]; a bias unchanged."""
  return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
