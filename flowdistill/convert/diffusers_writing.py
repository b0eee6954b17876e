"""Writes a network as a folder that diffusers, and this package, can load.

A network of two times is of a class of ours, which is written beside its
weights (`flow_maps/`), unless it can be called at one time.

Source of the layout: `ModelMixin.save_pretrained` of
https://github.com/huggingface/diffusers, 0.42.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowdistill.convert.diffusers_classes import (
  FLOW_MAPS,
  MODULE,
  PLAIN,
  is_flow_map,
  two_times,
)
from flowdistill.convert.diffusers_folder import (
  CLASS,
  CONFIG,
  INDEX,
  MAP,
  NAME,
)
from flowdistill.convert.names import listed
from flowdistill.files.safetensors_writing import write_safetensors

VERSION = '0.42.1'
OF_TORCH = {'format': 'pt'}
EMBEDDERS = ('time_text_embed_2.', 'scalars.of.guidance.')
"""Beginnings of names that a class of ours has beside those of diffusers."""
SIGN = 'times.sign'  # of negative times, at which nothing is sampled
MOST = 10 * 10**9  # bytes of a file
Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Format:
  """How diffusers saves a network.

  Attributes:
    keys: options of ours that its config.json has too.
    sizes: key -> its value, which follows from the tensors.
    own: beginnings of names that its class has none of.
  """

  keys: tuple[str, ...]
  sizes: Mapping[str, Callable[[Arrays, Mapping[str, Any]], int]]
  own: tuple[str, ...] = (*EMBEDDERS, SIGN, 'label.', 'scalars.')


def _width(name: str, axis: int) -> Callable[[Arrays, Any], int]:
  return lambda arrays, _: arrays[name].shape[axis]


SHARED = {
  'joint_attention_dim': _width('context_embedder.weight', 1),
  'pooled_projection_dim': _width(
    'time_text_embed.text_embedder.linear_1.weight', 1
  ),
}
FORMATS = {
  'flux': Format(
    (
      *('patch_size', 'num_layers', 'num_single_layers', 'attention_head_dim'),
      *('num_attention_heads', 'guidance_embeds', 'axes_dims_rope'),
    ),
    {
      **SHARED,
      'in_channels': _width('x_embedder.weight', 1),
      'out_channels': _width('proj_out.weight', 0),
    },
  ),
  'sd3': Format(
    (
      *('sample_size', 'patch_size', 'num_layers', 'attention_head_dim'),
      *('num_attention_heads', 'pos_embed_max_size', 'dual_attention_layers'),
      'qk_norm',
    ),
    {
      **SHARED,
      'in_channels': _width('pos_embed.proj.weight', 1),
      'out_channels': lambda arrays, options: (
        arrays['proj_out.weight'].shape[0] // options['patch_size'] ** 2
      ),
      'caption_projection_dim': _width('context_embedder.weight', 0),
    },
  ),
}


def config_of(
  network: Mapping[str, Any], theirs: Arrays, *, called: bool = False
) -> dict[str, Any]:
  """The config.json of a network.

  Args:
    network: our name and options.
    theirs: its arrays by the names of diffusers.
    called: see `is_flow_map`.

  Raises:
    ValueError: if there is no class for it.
  """
  if network['name'] not in FORMATS:
    raise ValueError(
      f'network.name = {network["name"]!r} must be one of '
      f'{", ".join(map(repr, FORMATS))} for a folder of diffusers'
    )
  saved, ours = FORMATS[network['name']], is_flow_map(network, called=called)
  (kinds, more) = (FLOW_MAPS, two_times(network)) if ours else (PLAIN, {})
  has = (*EMBEDDERS, SIGN) if ours else ()
  own = {name for name in theirs if name.startswith(saved.own)}
  if beyond := sorted(name for name in own if not name.startswith(has)):
    raise ValueError(f'{listed(beyond)}: diffusers has no such tensors')
  options = {key: network[key] for key in saved.keys}
  sizes = {key: size(theirs, network) for key, size in saved.sizes.items()}
  name = {CLASS: kinds[network['name']], '_diffusers_version': VERSION}
  return {**name, **options, **sizes, **more}


def write_folder(
  path: pathlib.Path,
  network: Mapping[str, Any],
  theirs: Arrays,
  *,
  called: bool = False,
  most: int = MOST,
) -> None:
  """Writes config.json and weights, in files of at most so many bytes.

  Raises:
    ValueError: as `config_of`.
  """
  config = config_of(network, theirs, called=called)
  path.mkdir(parents=True)
  (path / CONFIG).write_text(json.dumps(config, indent=2) + '\n')
  if is_flow_map(network, called=called):
    shutil.copyfile(MODULE, path / MODULE.name)
  write_weights(path, {n: x for n, x in theirs.items() if n != SIGN}, most)


def write_weights(path: pathlib.Path, theirs: Arrays, most: int) -> None:
  """Writes safetensors, in one file or in several with an index."""
  files = divided(theirs, most)
  if len(files) == 1:
    write_safetensors(path / f'{NAME}.safetensors', files[0], OF_TORCH)
    return
  where, total = dict[str, str](), 0
  for i, arrays in enumerate(files, 1):
    name = f'{NAME}-{i:05d}-of-{len(files):05d}.safetensors'
    write_safetensors(path / name, arrays, OF_TORCH)
    where |= dict.fromkeys(arrays, name)
    total += sum(array.nbytes for array in arrays.values())
  index = {'metadata': {'total_size': total}, MAP: where}
  (path / INDEX).write_text(json.dumps(index, indent=2) + '\n')


def divided(arrays: Arrays, most: int) -> list[dict[str, np.ndarray]]:
  """Arrays in order, in parts of at most `most` bytes, or of a larger array."""
  parts, size = [dict[str, np.ndarray]()], 0
  for name, array in arrays.items():
    if parts[-1] and size + array.nbytes > most:
      parts.append({})
      size = 0
    parts[-1][name] = array
    size += array.nbytes
  return parts
