"""A network as another program has saved it: its options, and its tensors."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError

from flowdistill.convert import kinds
from flowdistill.convert.safetensors_files import Stored, stored_tensors

FLOATS = ('F64', 'F32', 'F16', 'BF16')


@dataclasses.dataclass(frozen=True)
class SavedNetwork:
  """A network in files, whose numbers are not read yet.

  Attributes:
    path: of the folder, or of the only file.
    origin: the file that says what it is: config.json, or the only one.
    network: our name of it.
    options: of the network.
    tensors: name in diffusers -> tensor, over all files.
  """

  path: pathlib.Path
  origin: pathlib.Path
  network: str
  options: Mapping[str, Any]
  tensors: Mapping[str, Stored]

  @property
  def files(self) -> list[pathlib.Path]:
    """The files that it is read from, in order."""
    weights = {tensor.path for tensor in self.tensors.values()}
    return [self.origin, *sorted(weights - {self.origin})]


def opened(path: pathlib.Path) -> dict[str, Stored]:
  """Name -> tensor of a file of weights.

  Raises:
    ValueError: if it is of another format, damaged or cut short.
  """
  if (kind := kinds.kind_of(path)) != kinds.SAFETENSORS:
    raise ValueError(f'{path} is {kind}, and must be .safetensors')
  try:
    return stored_tensors(path)
  except (SafetensorError, *kinds.BROKEN) as error:
    raise ValueError(f'{path} is cut short or damaged: {error}') from error


def check_types(tensors: Mapping[str, Stored]) -> None:
  """Raises ValueError, naming a tensor with a type that is not read."""
  for tensor in tensors.values():
    if tensor.dtype not in FLOATS:
      raise ValueError(
        f'{tensor.path}: {tensor.name} has the type {tensor.dtype}; weights '
        f'must be one of {", ".join(FLOATS)}'
      )
