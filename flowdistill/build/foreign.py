"""Weights in files of other programs: their networks, and reading them."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from flowdistill.build.models import Model, shape_model
from flowdistill.build.snapshots import check_made
from flowdistill.config.bind import suggest
from flowdistill.convert import CONVERTERS, lpips
from flowdistill.convert.arrays import read_chosen
from flowdistill.convert.converter import Converter
from flowdistill.convert.kinds import kind_of
from flowdistill.convert.modules import Made
from flowdistill.convert.rules import Arrays, Shapes
from flowdistill.files.paths import expand
from flowdistill.networks import shapes_kl_features
from flowdistill.networks.lpips import LPIPS
from flowdistill.networks.shapes_kl_features import ShapesKLFeatures
from flowdistill.training.roles import Params


@dataclasses.dataclass(frozen=True)
class Foreign:
  """A network's weights in a file.

  Attributes:
    params: our arrays by their paths.
    ema: EMA weights, None if it has none.
    prefixes: 'params' and 'ema' -> what stands before their names in the file.
    constants: the paths of arrays that are not trained.
  """

  params: Arrays
  ema: Arrays | None
  prefixes: Mapping[str, list[str]]
  constants: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class FileNetwork:
  """A frozen network whose weights are read from a file.

  Attributes:
    make: makes the network, with any parameters.
    wanted: the names in a file -> those that are read.
    from_torch: the file's arrays and our shapes -> our arrays.
    shipped: name of a space -> the file for its examples, of a network that
      ships and is named so; {} of one that is named by a file.
  """

  make: Callable[[], nnx.Module]
  wanted: Callable[[list[str]], list[str]]
  from_torch: Callable[[Arrays, Shapes], Arrays]
  shipped: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)


def ours(arrays: Arrays, shapes: Shapes) -> Arrays:
  """The arrays of a file that has our names, in half precision."""
  return {name: arrays[name].astype(np.float32) for name in shapes}


FILES = {
  'perceptual': FileNetwork(
    lambda: LPIPS(rngs=nnx.Rngs(0)), lpips.wanted, lpips.from_torch
  ),
  'features': FileNetwork(
    lambda: ShapesKLFeatures(rngs=nnx.Rngs(0)),
    list,
    ours,
    {'shapes_kl': shapes_kl_features.WEIGHTS},
  ),
}
"""Role -> the network whose weights its reference names as a file."""


def path_of(source: str) -> pathlib.Path:
  """The path of a file that a config names."""
  return expand(source, repr(source))


def file_of(role: str, source: str) -> pathlib.Path:
  """The file of the weights of a role in `FILES`.

  Raises:
    ValueError: for a name of nothing that ships.
  """
  shipped = FILES[role].shipped
  if not shipped:
    return path_of(source)
  if source not in shipped:
    raise ValueError(
      f'{source!r} must be a space whose {role} ship; '
      f'{suggest(source, shipped)}'
    )
  return shipped[source]


@functools.cache
def file_model(role: str) -> Model:
  """The network of a role in `FILES`, abstractly."""
  return shape_model(FILES[role].make)


def read_weights(role: str, source: str) -> Params:
  """The weights of a role in `FILES` from a file, as numpy arrays.

  Raises:
    ValueError: for a file that does not exist, or an array that does not fit.
  """
  return read_params(FILES[role], file_model(role), file_of(role, source))


def read_params(
  network: FileNetwork, model: Model, file: pathlib.Path
) -> Params:
  """The weights of a network from a file, as numpy arrays.

  Raises:
    ValueError: as `read_weights`, naming the file.
  """
  flat = {
    '.'.join(map(str, path)): (path, leaf)
    for path, leaf in nnx.to_flat_state(model.params)
  }
  shapes = {name: leaf.shape for name, (_, leaf) in flat.items()}
  foreign = read_chosen(file, network.wanted)
  with _naming(file):
    arrays = network.from_torch(foreign, shapes)
  return nnx.from_flat_state(
    {path: leaf.replace(arrays[name]) for name, (path, leaf) in flat.items()}
  )


def digest_of(file: pathlib.Path) -> str:
  """The SHA-256 of a file, in hexadecimal digits."""
  with file.open('rb') as opened:
    return hashlib.file_digest(opened, 'sha256').hexdigest()


def weights_digest(file: pathlib.Path) -> str:
  """The SHA-256 of a file of weights.

  Raises:
    ValueError: if it is something else, which is not read to its end: a pipe
      has none.
  """
  kind_of(file)
  return digest_of(file)


def converter(network: str) -> Converter:
  """The rules that convert a network's weights from and to PyTorch."""
  if network not in CONVERTERS:
    raise ValueError(
      f'there are no rules for weights of {network!r}; '
      f'{suggest(network, CONVERTERS)}'
    )
  return CONVERTERS[network]


def read_foreign(
  file: pathlib.Path, network: Mapping[str, Any], shapes: Shapes
) -> Foreign:
  """A network's weights in a file of PyTorch.

  Args:
    file: of the weights.
    network: its name and options, which must be those of a snapshot.
    shapes: path in our network -> shape.

  Raises:
    ValueError: naming the file, if it cannot be read, has none, or is of a
      network with other options.
  """
  rules, present = converter(network['name']), list[str]()
  made = dict[str, Made]()

  def choose(names: list[str]) -> list[str]:
    present.extend(names)
    return rules.wanted(names, ema=True)

  arrays = read_chosen(file, choose, made.update)
  if not arrays:
    raise ValueError(
      f'{file} has no weights of {rules.naming.name}, whose names begin with '
      f'{rules.naming.first!r} after known prefixes; {_listed(present)}'
    )
  with _naming(file):
    prefixes = rules.naming.find(arrays).prefixes
    check_made(rules, made, prefixes['params'], network)
    ours = rules.read(arrays, shapes)
    constants = rules.constants(arrays, shapes)
  return Foreign(ours['params'], ours.get('ema'), prefixes, constants)


@contextlib.contextmanager
def _naming(file: pathlib.Path) -> Generator[None]:
  """Adds the file to errors in its context."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def _listed(names: Sequence[str]) -> str:
  """'it has a, b, c, and 7 other arrays'."""
  if not names:
    return 'it has no arrays'
  more = f', and {len(names) - 3} others' if len(names) > 3 else ''
  return f'its arrays are {", ".join(names[:3])}{more}'
