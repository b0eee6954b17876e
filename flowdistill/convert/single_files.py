"""A transformer in a single file, without a config.json.

The names of its tensors say which network it is, and their shapes its sizes.
Names of the original authors are turned into those of diffusers: of a tensor
that has several of diffusers, each is some of its rows, and is read alone.
"""

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from flowdistill.convert import flux, sd3
from flowdistill.convert.flux_sizes import sizes_of as flux_sizes
from flowdistill.convert.names import listed
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Shapes
from flowdistill.convert.safetensors_files import Stored
from flowdistill.convert.saved_network import (
  SavedNetwork,
  check_types,
  opened,
)
from flowdistill.convert.sd3_sizes import sizes_of as sd3_sizes

OTHERS = re.compile(
  r'(?:first_stage_model|vae|text_encoders|cond_stage_model|conditioner)\.'
)
"""What the names of the other parts of a whole checkpoint begin with."""
BITS = 40  # of the number of a row
SUFFIXES = ('.safetensors', '.sft')


class Kind(NamedTuple):
  """A network that is read from a single file.

  Attributes:
    first: a pattern of the name of its first layer.
    naming: of the architecture.
    rename: arrays -> arrays by the names of diffusers.
    sizes: shapes by those names -> the options of our network.
  """

  first: str
  naming: Naming
  rename: Callable[[Mapping[str, np.ndarray]], Arrays]
  sizes: Callable[[Shapes], dict[str, Any]]


KINDS = {
  'flux': Kind(
    r'(?:img_in|x_embedder)\.weight', flux.NAMING, flux.in_diffusers, flux_sizes
  ),
  'sd3': Kind(
    r'(?:x_embedder|pos_embed)\.proj\.weight', sd3.NAMING, sd3.in_diffusers,
    sd3_sizes,
  ),
}  # fmt: skip
"""Name of our network -> how its files are read."""


def open_file(path: pathlib.Path) -> SavedNetwork:
  """Reads the header of a file.

  Raises:
    ValueError: naming the file, if it is damaged, has none of the networks,
      tensors that belong to no part of one, or a type that is not read.
  """
  tensors = opened(path)
  network, prefix = _network_of(path, tensors)
  kind, own, others = KINDS[network], dict[str, Stored](), list[str]()
  for name, tensor in tensors.items():
    if name.startswith(prefix) and not OTHERS.match(name):
      own[name.removeprefix(prefix)] = tensor
    elif not OTHERS.match(name):
      others.append(name)
  if others:
    raise ValueError(
      f'{path}: {listed(sorted(others))}: these tensors are of no known part'
    )
  check_types(own)
  try:
    found = renamed(own, kind.rename)
    sizes = kind.sizes({name: tensor.shape for name, tensor in found.items()})
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return SavedNetwork(path, path, network, sizes, found)


def _network_of(
  path: pathlib.Path, tensors: Mapping[str, Stored]
) -> tuple[str, str]:
  """Our name of the network, and what its names begin with."""
  for network, kind in KINDS.items():
    for name in tensors:
      part = kind.naming.split(name)
      if part and not part.ema and re.fullmatch(kind.first, part.bare):
        return network, part.prefix
  raise ValueError(
    f'{path} must have the weights of {" or ".join(KINDS)}, not those of an '
    f'EMA, a LoRA or another network: it has {listed([*tensors], 3)}'
  )


def renamed(
  tensors: Mapping[str, Stored],
  rename: Callable[[Mapping[str, np.ndarray]], Arrays],
) -> dict[str, Stored]:
  """Tensors by the names that arrays get, each with the rows that it gets.

  What `rename` drops keeps its name.

  Args:
    tensors: by their names.
    rename: cuts arrays along their first axes, and moves their rows.

  Raises:
    ValueError: as `rename`, or if an array has rows of several tensors.
  """
  numbered = list(tensors.items())
  rows = {
    name: (k << BITS) + np.arange(tensor.shape[0] if tensor.shape else 1)
    for k, (name, tensor) in enumerate(numbered)
    if all(tensor.shape)
  }
  found, used = dict[str, Stored](), set[str]()
  for new, array in rename(rows).items():
    (number,) = {*(array >> BITS).tolist()}
    name, tensor = numbered[number]
    found[new] = _rows(tensor, array & ((1 << BITS) - 1))
    used.add(name)
  return found | {n: x for n, x in tensors.items() if n not in used}


def _rows(tensor: Stored, numbers: np.ndarray) -> Stored:
  """Some rows of a tensor, itself if these are all."""
  whole = np.arange(tensor.shape[0] if tensor.shape else 1)
  return tensor if np.array_equal(numbers, whole) else tensor.rows(numbers)
