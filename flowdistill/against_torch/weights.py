"""The parameters of a network, by the names that PyTorch gives them."""

from typing import Any

import jax
import numpy as np
import torch

from flowdistill.training.sharding import path_name

STACKED = '.each.'
NAMES = {'kernel': 'weight', 'embedding': 'weight'}


def state_dict(params: Any) -> dict[str, torch.Tensor]:
  """Every array of `params`, under its name and in its order of axes.

  A kernel [..., n_in, n_out] becomes [n_out, n_in, ...]; `blocks.each`, of
  layers that are stacked, becomes `blocks.0`, `blocks.1`, ...
  """
  found = {}
  for path, leaf in jax.tree.leaves_with_path(params):
    name, array = path_name(path), np.asarray(leaf)
    if STACKED in name:
      for i, each in enumerate(array):
        found |= one(name.replace(STACKED, f'.{i}.'), each)
    else:
      found |= one(name, array)
  return found


def one(name: str, array: np.ndarray) -> dict[str, torch.Tensor]:
  """One array, under its name."""
  stem, dot, last = name.rpartition('.')
  if last == 'kernel':
    axes = (array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
    array = array.transpose(axes)
  return {f'{stem}{dot}{NAMES.get(last, last)}': torch.tensor(array)}
