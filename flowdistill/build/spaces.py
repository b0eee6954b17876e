"""Spaces as a config names them; those of networks have weights in a file."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from flowdistill.autoencoders import SPACES
from flowdistill.autoencoders.kl import AutoencoderKL, KLConfig
from flowdistill.autoencoders.shapes_kl import SIZES, WEIGHTS
from flowdistill.autoencoders.space import Numbers, Space
from flowdistill.autoencoders.tiles import Tiles, decode_tiles
from flowdistill.build.foreign import (
  FileNetwork,
  path_of,
  read_params,
  weights_digest,
)
from flowdistill.build.models import shape_model
from flowdistill.convert import kl as names
from flowdistill.datasets.files import Stamp, stamp_of
from flowdistill.training.mesh import make_mesh
from flowdistill.training.roles import Params
from flowdistill.training.sharding import Layout

UNIT, MOST = (-1.0, 1.0), 1e6  # the range of pixels here, and any range
SD_SIZES, SD_SCALE = KLConfig(), 0.18215  # of Stable Diffusion 1 and 2


def kl(
  shape: tuple[int, ...],
  *,
  path: str = '',
  sizes: KLConfig = SD_SIZES,
  scaling_factor: float | tuple[float, ...] = SD_SCALE,
  shift_factor: float | tuple[float, ...] = 0.0,
  pixel_range: tuple[float, float] = UNIT,
  batch_size: int = 8,
  tile: int | None = None,
  tile_overlap: int | None = None,
) -> Space:
  """Latents (z - shift) · scale of a KL autoencoder, see `autoencoders/kl.py`.

  The defaults are those of Stable Diffusion 1 and 2.

  Args:
    shape: of an image, (h, w, c).
    path: of diffusers' weights, .safetensors, .npz or .bin.
    sizes: of the network.
    scaling_factor: a number, or one for each channel.
    shift_factor: a number, or one for each channel.
    pixel_range: the values of black and white that the network sees: (-1, 1),
      with which it was trained, or (0, 1), as EDM2 uses it.
    batch_size: images on each device at once, outside of training.
    tile: pixels of the side of a tile, to decode large images in tiles (see
      `autoencoders/tiles.py`); None decodes the whole at once.
    tile_overlap: pixels that two neighbours share; None is a quarter of a tile.

  Raises:
    ValueError: for another shape, or an option out of range.
  """
  if not path:
    raise ValueError("path = '' must be the file of the autoencoder's weights")
  if batch_size < 1:
    raise ValueError(f'batch_size = {batch_size} must be at least 1')
  channels = sizes.latent_channels
  scale = check_numbers('scaling_factor', scaling_factor, channels)
  shift = check_numbers('shift_factor', shift_factor, channels)
  if not (scale > 0).all():
    raise ValueError(f'scaling_factor = {scaling_factor} must be above 0')
  low, high = pixel_range
  if not -MOST < low < high < MOST:
    raise ValueError(
      f'pixel_range = {pixel_range} must be two numbers, black and white, such '
      'as (-1, 1) or (0, 1)'
    )
  tiles = make_tiles(tile, tile_overlap, sizes.factor)
  latent = sizes.latent_shape(shape)
  network = Autoencoder(sizes, shape[-1], path, batch_size, tiles)
  half, middle = np.float32((high - low) / 2), np.float32((high + low) / 2)
  plain = pixel_range == UNIT

  def moments(x: Any) -> tuple[Any, Any]:
    return network.moments(x if plain else x * half + middle)

  def encode(x: Any) -> Any:
    return (moments(x)[0] - shift) * scale

  def decode(z: Any) -> Any:
    x = network.decode(z / scale + shift)
    return x if plain else (x - middle) / half

  return Space(
    latent,
    encode,
    decode,
    scaling_factor,
    shift_factor,
    moments,
    network.digest,
    network.load,
  )


def make_tiles(
  tile: int | None, overlap: int | None, factor: int
) -> Tiles | None:
  """Tiles of latents, from sizes in pixels; None for none.

  Raises:
    ValueError: if the factor of the autoencoder does not divide them, or a tile
      is all overlap.
  """
  if tile is None:
    if overlap is not None:
      raise ValueError(f'tile_overlap = {overlap} has no effect without a tile')
    return None
  quarter = tile // factor // 4 * factor
  overlap = quarter if overlap is None else overlap
  if tile < factor or tile % factor:
    raise ValueError(f'tile = {tile} must be a multiple of {factor} pixels')
  if not 0 <= overlap < tile or overlap % factor:
    raise ValueError(
      f'tile_overlap = {overlap} must be a multiple of {factor} pixels below '
      f'tile = {tile}'
    )
  return Tiles(tile // factor, overlap // factor)


def check_numbers(name: str, given: Numbers, channels: int) -> np.ndarray:
  """A number or one for each channel as float32, [] or [channels].

  Raises:
    ValueError: for another length, or what is not finite in float32.
  """
  numbers = np.asarray(given, np.float64)
  if numbers.shape not in ((), (channels,)):
    raise ValueError(
      f'{name} = {given} must be a number, or {channels}, one for each channel'
    )
  if not (np.abs(numbers) <= np.finfo(np.float32).max).all():
    raise ValueError(f'{name} = {given} must be finite in float32')
  return numbers.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """A network with the weights of a file, which are read when first needed.

  Attributes:
    sizes: of the network.
    channels: of the images.
    path: of the file.
    batch_size: examples on each device at once, of NumPy arrays.
    tiles: in which pictures are decoded; None decodes the whole.
  """

  sizes: KLConfig
  channels: int
  path: str
  batch_size: int
  tiles: Tiles | None = None

  def moments(self, x: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of images, see `AutoencoderKL`."""
    return self._call(_moments, x)

  def decode(self, z: Any) -> Any:
    """The images of latents."""
    return self._call(_decode, z)

  def load(self) -> Params:
    """The weights, as NumPy arrays.

    Raises:
      ValueError: naming the file, if it cannot be read or is of other sizes.
    """
    file = path_of(self.path)
    return _read(file, self.sizes, self.channels, stamp_of(file))

  def digest(self) -> str:
    """The SHA-256 of the file."""
    file = path_of(self.path)
    return _digest(file, stamp_of(file))

  def _call(self, method: Callable[..., Any], x: Any) -> Any:
    """Of an array on devices there, of a NumPy array batch by batch."""
    apply = _compiled(method, self.sizes, self.channels, self.tiles)
    if isinstance(x, jax.Array):
      return apply(self._placed(_layout_of(x)), x)
    layout = Layout(make_mesh(devices=jax.local_devices()))
    params, rows = self._placed(layout), layout.round_up(1) * self.batch_size
    parts = []
    for first in range(0, len(x), rows):
      index = np.minimum(np.arange(first, first + rows), len(x) - 1)
      found = apply(params, layout.spread(np.asarray(x[index], np.float32)))
      parts.append(jax.tree.map(layout.collect, found))
    return jax.tree.map(lambda *a: np.concatenate(a)[: len(x)], *parts)

  def _placed(self, layout: Layout | None) -> Params:
    file = path_of(self.path)
    return _on_devices(self, layout, stamp_of(file))


def _moments(
  model: AutoencoderKL, x: jax.Array, sizes: KLConfig, tiles: Tiles | None
) -> tuple[jax.Array, jax.Array]:
  del sizes, tiles
  mean, log_variance = model.moments(x)
  return mean, jax.numpy.exp(log_variance / 2)


def _decode(
  model: AutoencoderKL, z: jax.Array, sizes: KLConfig, tiles: Tiles | None
) -> jax.Array:
  if tiles is None:
    return model.decode(z)
  return decode_tiles(model.decode, z, tiles, sizes.factor)


def _network(sizes: KLConfig, channels: int) -> FileNetwork:
  return FileNetwork(
    lambda: AutoencoderKL(sizes, channels, rngs=nnx.Rngs(0)),
    names.wanted,
    names.from_torch,
  )


@functools.cache
def _compiled(
  method: Callable[..., Any],
  sizes: KLConfig,
  channels: int,
  tiles: Tiles | None,
) -> Callable[[Params, jax.Array], Any]:
  graph = shape_model(_network(sizes, channels).make).graph

  def apply(params: Params, x: jax.Array) -> Any:
    with jax.default_matmul_precision('highest'):
      return method(nnx.merge(graph, params), x, sizes, tiles)

  return jax.jit(apply)


@functools.lru_cache(maxsize=2)
def _read(
  file: pathlib.Path, sizes: KLConfig, channels: int, stamp: Stamp
) -> Params:
  """The weights of a file, read again if it has changed."""
  del stamp
  network = _network(sizes, channels)
  return read_params(network, shape_model(network.make), file)


@functools.lru_cache(maxsize=2)
def _digest(file: pathlib.Path, stamp: Stamp) -> str:
  del stamp
  return weights_digest(file)


@functools.lru_cache(maxsize=2)
def _on_devices(
  network: Autoencoder, layout: Layout | None, stamp: Stamp
) -> Params:
  """The weights on every device of a layout, or on the first one."""
  del stamp
  return jax.device_put(network.load(), layout and layout.replicated)


def _layout_of(x: jax.Array) -> Layout | None:
  """That of an array on a mesh, None for an array on one device."""
  mesh = getattr(x.sharding, 'mesh', None)
  return None if mesh is None else Layout(mesh)


def shapes_kl(shape: tuple[int, ...], *, batch_size: int = 64) -> Space:
  """Latents of flat pictures, see `autoencoders/shapes_kl.py`.

  Args:
    shape: of an image, (h, w, 3).
    batch_size: see `kl`.

  Raises:
    ValueError: for another shape, or an option out of range.
  """
  if shape[2:] != (3,):
    raise ValueError(f'shapes_kl takes images [h, w, 3], not {list(shape)}')
  whole = {'sizes': SIZES, 'scaling_factor': 1.0, 'batch_size': batch_size}
  return kl(shape, path=str(WEIGHTS), **whole)


SPACE_LAWS: Mapping[str, Callable[..., Space]] = {
  **SPACES,
  'kl': kl,
  'shapes_kl': shapes_kl,
}
"""Name in configs -> space(shape, ...)."""
