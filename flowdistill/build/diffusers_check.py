"""Compares what is written for diffusers with what diffusers makes of it.

That a file loads proves nothing: names that are not known are left out. So the
answers of both are compared, and of a LoRA the update of every layer.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.build.foreign import converter
from flowdistill.build.lora_files import is_factor, updates_of
from flowdistill.convert.diffusers_writing import config_of

MOST = 1e-3
NEEDED = ('torch', 'diffusers', 'peft')
MODULE = 'flowdistill.convert.diffusers_models'


@dataclasses.dataclass(frozen=True)
class Comparison:
  """How far the answers of diffusers are from ours.

  Attributes:
    largest: difference.
    relative: that as a share of our largest number.
    layers: number of layers whose update was measured, of a LoRA; else 0.
    largest_update: difference of an update, as a share of its largest number.
  """

  largest: float
  relative: float
  layers: int = 0
  largest_update: float = 0.0

  def __str__(self) -> str:
    text = (
      f'diffusers answers as we do: the largest difference is '
      f'{self.largest:.2g}, {self.relative:.2g} of the largest number'
    )
    if self.layers:
      text += (
        f'; the updates of {self.layers} layers differ by at most '
        f'{self.largest_update:.2g} of their largest number'
      )
    return text


@dataclasses.dataclass(frozen=True)
class Asked:
  """The inputs of a network, and our answer.

  Attributes:
    x: [b, h, w, c].
    t: [b].
    s: [b]; t for a network of one time.
    cond: the conditions.
    ours: [b, h, w, c].
  """

  x: np.ndarray
  t: np.ndarray
  s: np.ndarray
  cond: Mapping[str, np.ndarray]
  ours: np.ndarray


def check_installed() -> None:
  """Raises ValueError without PyTorch, diffusers or PEFT."""
  for name in NEEDED:
    if importlib.util.find_spec(name) is None:
      raise ValueError(
        f'--check needs {name}, which is not installed: '
        "pip install 'flowdistill[torch]'"
      )


def check_folder(path: pathlib.Path, network: str, asked: Asked) -> Comparison:
  """Compares a folder.

  Raises:
    ValueError: if diffusers cannot load it, or answers otherwise.
  """
  models: Any = importlib.import_module(MODULE)
  return _compared(path, network, models.load_folder(network, path), asked)


def check_lora(
  path: pathlib.Path,
  network: Mapping[str, Any],
  arrays: Mapping[str, Any],
  scale: float,
  asked: Asked,
) -> Comparison:
  """Compares a file of LoRA, loaded onto its base.

  Args:
    path: of the file.
    network: its name and options.
    arrays: by our paths, of the base and the factors.
    scale: α / r.
    asked: with the answer of base and factors.

  Raises:
    ValueError: naming a layer with another update than ours, or as
      `check_folder`.
  """
  models: Any = importlib.import_module(MODULE)
  name = network['name']
  base = {
    path: np.asarray(x, np.float32)
    for path, x in arrays.items()
    if not is_factor(path)
  }
  theirs = converter(name).to_torch(base, 0, network=network)
  model = models.make_model(name, config_of(network, theirs), theirs)
  found = models.add_lora(name, model, path)
  wanted = updates_of(name, arrays, scale)
  worst = _compare_updates(path, found, wanted)
  comparison = _compared(path, name, model, asked)
  return dataclasses.replace(
    comparison, layers=len(wanted), largest_update=worst
  )


def _compare_updates(
  path: pathlib.Path,
  found: Mapping[str, np.ndarray],
  wanted: Mapping[str, np.ndarray],
) -> float:
  """The largest relative difference; a layer without an update has zeros."""
  worst = 0.0
  for name in sorted({*found, *wanted}):
    update = wanted.get(name, np.zeros(()))
    size = np.abs(update).max()
    off = float(np.abs(found.get(name, 0.0) - update).max())
    if off > MOST * size:
      raise ValueError(
        f'{path}: diffusers updates {name} by other numbers, whose largest '
        f'difference is {off:.2g}, of updates up to {size:.2g}'
      )
    worst = max(worst, off / size if size else 0.0)
  return worst


def _compared(
  path: pathlib.Path, network: str, model: Any, asked: Asked
) -> Comparison:
  models: Any = importlib.import_module(MODULE)
  theirs = models.answer(network, model, asked.x, asked.t, asked.s, asked.cond)
  largest = float(np.abs(theirs - asked.ours).max())
  size = float(np.abs(asked.ours).max())
  if not largest <= MOST * size:
    raise ValueError(
      f'{path}: diffusers answers otherwise: the largest difference is '
      f'{largest:.2g}, of numbers up to {size:.2g}'
    )
  return Comparison(largest, largest / size)
