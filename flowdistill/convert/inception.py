"""Weights of the InceptionV3 of FID in PyTorch, both ways.

  torch-fidelity  weights-inception-2015-12-05-6726825d.pth
  pytorch-fid     pt_inception-2015-12-05-6726825d.pth, which is the same

  Mixed_5b.branch1x1.conv.weight is our Mixed_5b.branch1x1.kernel,
  Mixed_5b.branch1x1.bn.running_var our Mixed_5b.branch1x1.variance, ...

`fold` then puts the batch normalisation, which is constant, into kernels and
biases, in float64: w' = w γ / √(σ² + 0.001), b' = β − μ γ / √(σ² + 0.001).

Source of the names: https://github.com/toshas/torch-fidelity, 0.4.0.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Rule, Shapes, needed, read, write

NAMING = Naming(
  'InceptionV3', r'(?:Conv2d_|Mixed_|fc\.)', r'\.num_batches_tracked$'
)
EPS = 0.001
NORM = {
  'scale': 'bn.weight',
  'offset': 'bn.bias',
  'mean': 'bn.running_mean',
  'variance': 'bn.running_var',
}
"""Our arrays of a layer's batch normalisation -> theirs."""


def make_rules(shapes: Shapes) -> list[Rule]:
  """The rules of a network's arrays, before they are folded.

  Args:
    shapes: path in our network -> shape.
  """
  rules = [
    Rule('fc.kernel', 'fc.weight', (1, 0)),
    Rule('fc.bias', 'fc.bias', (0,)),
  ]
  for layer in _layers(shapes):
    rules.append(Rule(f'{layer}.kernel', f'{layer}.conv.weight', (2, 3, 1, 0)))
    rules += [
      Rule(f'{layer}.{n}', f'{layer}.{t}', (0,)) for n, t in NORM.items()
    ]
  return rules


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network, folded.

  Args:
    arrays: by their names in a file, with any known prefixes.
    shapes: path in our network -> shape.

  Raises:
    ValueError: as `rules.read`, or if a variance is negative.
  """
  return fold(unfolded(arrays, shapes))


def unfolded(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """As `from_torch`, with the batch normalisation beside the kernels."""
  whole = dict(shapes)
  for layer in _layers(shapes):
    bias = whole.pop(f'{layer}.bias')
    whole |= {f'{layer}.{name}': bias for name in NORM}
  return read(arrays, whole, make_rules(shapes), NAMING)


def fold(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Kernels and biases that answer as kernels and batch normalisation do.

  Raises:
    ValueError: if a variance is negative.
  """
  ours = {n: a for n, a in arrays.items() if n.startswith('fc.')}
  for layer in _layers(arrays):
    scale, offset, mean, variance = (
      arrays[f'{layer}.{name}'].astype(np.float64) for name in NORM
    )
    if variance.min() < 0:
      raise ValueError(
        f'these weights of InceptionV3 have {layer}.bn.running_var of '
        f'{variance.min():.4g}; a variance must be at least 0'
      )
    factor = scale / np.sqrt(variance + EPS)
    kernel = arrays[f'{layer}.kernel'] * factor
    ours[f'{layer}.kernel'] = kernel.astype(np.float32)
    ours[f'{layer}.bias'] = (offset - mean * factor).astype(np.float32)
  return ours


def to_torch(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Arrays of `unfolded` by PyTorch's names."""
  shapes = {f'{n}.kernel': () for n in _layers(arrays)}
  return write(arrays, make_rules(shapes))


def wanted(names: Iterable[str]) -> list[str]:
  """The names in a file, with any known prefixes, that are read."""
  return needed(names, NAMING, ema=False)


def _layers(paths: Iterable[str]) -> list[str]:
  """The convolutions among the paths of arrays."""
  kernels = [path for path in paths if path.endswith('.kernel')]
  layers = [path.removesuffix('.kernel') for path in kernels]
  return [layer for layer in layers if layer != 'fc']
