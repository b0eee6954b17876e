"""Weights in files of other programs: their networks, and reading them."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence

from flax import nnx

from flowdistill.build.models import Model, shape_model
from flowdistill.config.bind import suggest
from flowdistill.convert import CONVERTERS, lpips
from flowdistill.convert.arrays import read_arrays, read_chosen
from flowdistill.convert.rules import Arrays, Converter, Shapes
from flowdistill.networks.lpips import LPIPS
from flowdistill.training.roles import Params

Foreign = dict[str, Arrays]


@dataclasses.dataclass(frozen=True)
class FileNetwork:
  """A frozen network whose weights are read from a file.

  Attributes:
    make: makes the network, with any parameters.
    names: of the arrays in the file.
    from_torch: the file's arrays and our shapes -> our arrays.
  """

  make: Callable[[], nnx.Module]
  names: Sequence[str]
  from_torch: Callable[[Arrays, Shapes], Arrays]


FILES = {
  'perceptual': FileNetwork(
    lambda: LPIPS(rngs=nnx.Rngs(0)), lpips.NAMES, lpips.from_torch
  ),
}
"""Role -> the network whose weights its reference names as a file."""


def path_of(source: str) -> pathlib.Path:
  """The path of a file that a config names."""
  return pathlib.Path(source).expanduser()


@functools.cache
def file_model(role: str) -> Model:
  """The network of a role in `FILES`, abstractly."""
  return shape_model(FILES[role].make)


def read_weights(role: str, source: str) -> Params:
  """The weights of a role in `FILES` from a file, as numpy arrays.

  Raises:
    ValueError: for a file that does not exist, or an array that does not fit.
  """
  flat = {
    '.'.join(map(str, path)): (path, leaf)
    for path, leaf in nnx.to_flat_state(file_model(role).params)
  }
  shapes = {name: leaf.shape for name, (_, leaf) in flat.items()}
  foreign = read_arrays(path_of(source), FILES[role].names)
  arrays = FILES[role].from_torch(foreign, shapes)
  return nnx.from_flat_state(
    {path: leaf.replace(arrays[name]) for name, (path, leaf) in flat.items()}
  )


def digest_of(file: pathlib.Path) -> str:
  """The SHA-256 of a file, in hexadecimal digits."""
  with file.open('rb') as opened:
    return hashlib.file_digest(opened, 'sha256').hexdigest()


def converter(network: str) -> Converter:
  """The rules that convert a network's weights from and to PyTorch."""
  if network not in CONVERTERS:
    raise ValueError(
      f'there are no rules for weights of {network!r}; '
      f'{suggest(network, CONVERTERS)}'
    )
  return CONVERTERS[network]


def read_foreign(file: pathlib.Path, network: str, shapes: Shapes) -> Foreign:
  """A network's arrays in a file of PyTorch: `params`, and `ema` if it has."""
  rules = converter(network)
  arrays = read_chosen(file, lambda names: rules.wanted(names, ema=True))
  return rules.read(arrays, shapes)
