"""Published networks, by the references of a config.

  config.frozen.teacher = 'FLUX.1-dev/transformer'
  config.frozen.teacher = 'FLUX.1-dev/flux1-dev.safetensors'

A folder of diffusers has a config.json that says which network it is; of a
single file the shapes of its tensors say it. No key of the config has to repeat
it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from flowdistill.build.foreign import converter, digest_of, path_of
from flowdistill.build.hub import fetched, is_of_hub
from flowdistill.build.lora_files import read_updates
from flowdistill.build.models import Model, shape_model
from flowdistill.build.tables import ROOMS
from flowdistill.build.weights import changes_of
from flowdistill.config.bind import ConfigError, bind
from flowdistill.config.protocols import Network
from flowdistill.config.resolve import resolve
from flowdistill.config.sections import Reference
from flowdistill.convert.diffusers_folder import (
  is_folder_of_diffusers,
  open_folder,
)
from flowdistill.convert.reading import Reading, plan_reading
from flowdistill.convert.saved_network import SavedNetwork
from flowdistill.convert.single_files import SUFFIXES, open_file
from flowdistill.flow.spec import DataSpec
from flowdistill.training.roles import Params
from flowdistill.training.rounding import DTYPES
from flowdistill.training.sharding import Layout


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
  """A network in a folder or a file, abstractly.

  Attributes:
    model: the network.
    reading: how its arrays are made of the tensors in the files.
    saved: where it is read from.
    lora: the file of a LoRA that is merged with it; None without.
  """

  model: Model
  reading: Reading
  saved: SavedNetwork
  lora: pathlib.Path | None = None

  def load(self, dtype: str, layout: Layout | None) -> Params:
    """The weights, placed array by array."""
    flat = dict(nnx.to_flat_state(self.model.params))
    place = self._places(flat, layout)
    arrays = {}
    for path, leaf in flat.items():
      whole = self.reading.array(_name(path), np.dtype(DTYPES[dtype]))
      arrays[path] = leaf.replace(_put(whole, place[path]))
      del whole  # before the next one is read
    return nnx.from_flat_state(arrays)

  def _places(
    self, flat: Mapping[Any, Any], layout: Layout | None
  ) -> dict[Any, Any]:
    """Path -> sharding; without a layout the first device."""
    if layout is None:
      device = jax.devices()[0]
      return dict.fromkeys(flat, jax.sharding.SingleDeviceSharding(device))
    shardings = layout.shardings(self.model.params)
    return {p: x.get_value() for p, x in nnx.to_flat_state(shardings)}

  @functools.cached_property
  def digest(self) -> str:
    """The SHA-256 of the names and the digests of its files.

    A single file may have another name later.
    """
    whole, lora = hashlib.sha256(), [self.lora] if self.lora else []
    named = self.saved.path.is_dir()
    for file in (*self.saved.files, *lora):
      name = file.name if named else ''
      whole.update(f'{name} {digest_of(file)}\n'.encode())
    return whole.hexdigest()


def _name(path: Any) -> str:
  return '.'.join(map(str, path))


def _put(whole: np.ndarray, sharding: Any) -> jax.Array:
  """An array on the devices, which no longer needs `whole`."""
  array = jax.make_array_from_callback(
    whole.shape, sharding, lambda index: whole[index]
  )
  return array.block_until_ready()


def is_published(source: str) -> bool:
  """Whether it names a folder of diffusers or a file, here or of the hub."""
  if is_of_hub(source):
    return True
  with contextlib.suppress(ValueError, OSError):
    path = path_of(source)
    return is_single(path) or is_folder_of_diffusers(path)
  return False


def is_single(path: pathlib.Path) -> bool:
  """Whether a path is named as a file of weights, which may be missing."""
  return path.suffix.lower() in SUFFIXES and not path.is_dir()


def open_published(reference: Reference, sees: DataSpec, key: str) -> Published:
  """The network that a reference names, for examples of a spec.

  Raises:
    ConfigError: naming the key, if the folder or the file cannot be read, its
      config.json has a key that is not known, the examples do not fit the
      network, or a LoRA does not.
  """
  with _naming(key):
    source = reference.source
    where = fetched(source) if is_of_hub(source) else path_of(source)
    saved = open_file(where) if is_single(where) else open_folder(where)
  at = f'{key}: {saved.origin}'
  options = {**saved.options, **changes_of(reference)}
  spec = resolve({'name': saved.network, **options}, Network, at, ROOMS)
  network = bind(spec, Network, at, ROOMS)
  model = shape_model(lambda: network(sees, rngs=nnx.Rngs(0)))
  shapes = {
    _name(path): leaf.shape for path, leaf in nnx.to_flat_state(model.params)
  }
  rules: Callable[..., Any] = converter(saved.network).make_rules
  with _naming(key):
    reading = plan_reading(saved, shapes, lambda single: rules(single, 0))
    if reference.lora is None:
      return Published(model, reading, saved)
    lora = path_of(reference.lora)
    updates = read_updates(lora, saved.network, shapes)
  reading = dataclasses.replace(reading, lora=updates)
  return Published(model, reading, saved, lora)


@contextlib.contextmanager
def _naming(key: str) -> Generator[None]:
  """Prefixes errors in its context with a key of the config."""
  try:
    yield
  except ValueError as error:
    raise ConfigError(f'config.{key}: {error}') from error
