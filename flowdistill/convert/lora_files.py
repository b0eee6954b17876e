"""LoRA in files: those of diffusers, PEFT, ComfyUI and kohya's sd-scripts.

What is written for diffusers is right in ComfyUI too: α / r is multiplied into
B, and the metadata says α = r, so that it makes no difference whether a program
reads α from the metadata, or takes r where it finds none.

Sources: see `lora_names.py`; the metadata: `LORA_ADAPTER_METADATA_KEY` of
https://github.com/huggingface/diffusers, 0.42.
"""

import collections
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors import safe_open

from flowdistill.convert import kinds
from flowdistill.convert.arrays import read_chosen
from flowdistill.convert.lora import Factors, LoRA, Widths, check_fits
from flowdistill.convert.lora_fused import ORIGINALS
from flowdistill.convert.lora_names import (
  ALPHA,
  A,
  B,
  Layer,
  Names,
)
from flowdistill.convert.names import listed
from flowdistill.convert.rules import Arrays
from flowdistill.files.safetensors_writing import write_safetensors

READ = (kinds.SAFETENSORS, kinds.ZIPPED, kinds.LEGACY)
METADATA = 'lora_adapter_metadata'
PREFIX = 'transformer.'
BESIDE = 'adapter_config.json'
"""The file in which PEFT has what diffusers has in the metadata."""
OTHER = ('use_dora', 'use_rslora')
"""Methods whose update is not (α / r) B A."""
STARTS = ('pissa', 'olora', 'corda', 'loftq', 'lora_ga')
"""Initialisations of PEFT that change the base, to which A and B belong."""
MOST = 1e30  # of the size of α
PLAIN = re.compile(r'\^?[\w.]+')
Alpha = Callable[[str, int], float]
"""alpha(name of a layer, rank) -> α."""


def read_lora(
  path: pathlib.Path, widths: Widths, network: str = ''
) -> dict[str, Factors]:
  """The update of every layer in a file, float32.

  Args:
    path: of a .safetensors file, or one of PyTorch such as .pth, of which
      nothing is executed (see `pickles.py`).
    widths: of the linear layers of the network, by their names in diffusers.
    network: its name, for files with the layers of its original.

  Raises:
    ValueError: naming the file, if it is of another kind, has a tensor that is
      of no layer, a layer twice or without one of A and B, or one that does
      not fit, or says α in two ways.
  """
  if (kind := kinds.kind_of(path)) not in READ:
    raise ValueError(
      f'{path} is {kind}; a LoRA must be .safetensors, or a file of PyTorch'
    )
  arrays = read_chosen(path, lambda names: names)
  try:
    return _of_arrays(arrays, _config_of(path), widths, network)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _of_arrays(
  arrays: Mapping[str, np.ndarray],
  config: Mapping[str, Any],
  widths: Widths,
  network: str,
) -> dict[str, Factors]:
  known = Names(widths, network)
  arrays = without_shared(arrays, known)
  layers, left = known.sort(arrays)
  if left:
    raise ValueError(
      f'{listed(sorted(left))}: these tensors are not used. A file must have '
      'pairs of lora_A and lora_B of linear layers of this network alone'
    )
  if not layers:
    raise ValueError('it has no tensors')
  alpha = alpha_of(config)
  if config and (own := [x.names[ALPHA] for x in layers if ALPHA in x.names]):
    raise ValueError(
      f'its metadata say alpha, and so does {min(own)}: remove one of both'
    )
  found, origin = dict[str, Factors](), dict[str, str]()
  for layer in layers:
    for name, factors in _parts(layer, arrays, alpha, widths):
      if name in found:
        raise ValueError(
          f'{name} is updated twice, by {origin[name]} and by {layer.names[A]}'
        )
      check_fits(name, factors, widths)
      found[name], origin[name] = factors, layer.names[A]
  return found


def without_shared(
  arrays: Mapping[str, np.ndarray], known: Names
) -> Mapping[str, np.ndarray]:
  """Names without first parts such as 'net.' that all share, if one is known.

  Where none is, they stay as they are.
  """
  bare, ours = dict(arrays), {name.partition('.')[0] for name in known.dotted}
  while not known.sort(bare)[0]:
    first = {name.partition('.')[0] for name in bare}
    if len(first) != 1 or first & ours or not all('.' in n for n in bare):
      return arrays
    bare = {name.partition('.')[2]: x for name, x in bare.items()}
  return bare


def _parts(
  layer: Layer, arrays: Mapping[str, np.ndarray], alpha: Alpha, widths: Widths
) -> list[tuple[str, Factors]]:
  """(name in diffusers, update) of what a layer of a file has."""
  a, b = (arrays[layer.names[x]].astype(np.float32) for x in (A, B))
  target = layer.target
  if a.ndim != 2 or b.ndim != 2 or not len(a) or b.shape[1] != len(a):
    raise ValueError(
      f'{layer.names[A]} has shape {list(a.shape)} and {layer.names[B]} '
      f'{list(b.shape)}; they must be [r, in] and [out, r]'
    )
  value = alpha(target.name, len(a))
  if ALPHA in layer.names:
    given = arrays[layer.names[ALPHA]]
    if given.size != 1:
      raise ValueError(
        f'{layer.names[ALPHA]} has shape {list(given.shape)}; it must be one '
        'number'
      )
    value = float(given.reshape(()))
  factors = Factors(a, b, value)
  if target.parts == (target.name,):
    return [(target.name, factors)]
  return list(target.split(factors, widths))


def _config_of(path: pathlib.Path) -> dict[str, Any]:
  """What the metadata of a file say of the method, or the file of PEFT."""
  metadata = {}
  if kinds.kind_of(path) == kinds.SAFETENSORS:
    with safe_open(path, 'numpy') as opened:
      metadata = opened.metadata() or {}
  beside = path.with_name(BESIDE)
  if METADATA in metadata:
    config = _json(metadata[METADATA], f'the metadata {METADATA}')
    inside = {
      key.removeprefix(PREFIX): value
      for key, value in config.items()
      if key.startswith(PREFIX)
    }
    return inside or config
  if path.stem == 'adapter_model' and beside.is_file():
    return _json(beside.read_text(), BESIDE)
  return {}


def _json(text: str, what: str) -> dict[str, Any]:
  try:
    config = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{what} is no JSON: {error}') from error
  if not isinstance(config, dict):
    raise ValueError(f'{what} must be a dict')
  return config


def alpha_of(config: Mapping[str, Any]) -> Alpha:
  """α by the configuration of PEFT; without one it is r.

  Raises:
    ValueError: for another method than LoRA, factors of another base than the
      published one, or α that are not finite numbers.
  """
  for key in OTHER:
    if config.get(key):
      raise ValueError(f'it has {key}, which is another method than LoRA')
  start = config.get('init_lora_weights')
  if isinstance(start, str) and start.startswith(STARTS):
    raise ValueError(
      f'it has init_lora_weights = {start!r:.40}, which changes the base that '
      'its factors are for: convert it to a plain LoRA in PEFT first'
    )
  patterns = config.get('alpha_pattern') or {}
  if not isinstance(patterns, Mapping):
    raise ValueError('its alpha_pattern must be a dict')
  whole = config.get('lora_alpha')
  for value in [whole, *patterns.values()]:
    number = type(value) in (int, float) and abs(value) < MOST
    if value is not None and not number:
      raise ValueError(f'its alpha {str(value)!r:.40} is no finite number')
  for pattern in patterns:
    if not PLAIN.fullmatch(pattern):
      raise ValueError(f'its alpha_pattern has {pattern!r}, no name of a layer')

  def alpha(name: str, rank: int) -> float:
    for pattern, value in patterns.items():
      end = pattern.removeprefix('^')
      if name == end or (end == pattern and name.endswith(f'.{end}')):
        return float(value)
    return float(rank if whole is None else whole)

  return alpha


def write_diffusers(path: pathlib.Path, lora: LoRA) -> None:
  """Writes a file for diffusers and ComfyUI."""
  scaled = {name: factors.scaled for name, factors in lora.items()}
  arrays = {f'{PREFIX}{n}.lora_A.weight': f.a for n, f in scaled.items()}
  arrays |= {f'{PREFIX}{n}.lora_B.weight': f.b for n, f in scaled.items()}
  ranks = {name: factors.rank for name, factors in scaled.items()}
  (rank, _), *_ = collections.Counter(ranks.values()).most_common(1)
  others = {f'^{name}': r for name, r in ranks.items() if r != rank}
  config = {
    'r': rank,
    'lora_alpha': rank,
    'rank_pattern': others,
    'alpha_pattern': others,
    'target_modules': list(scaled),
  }
  text = json.dumps({f'{PREFIX}{key}': value for key, value in config.items()})
  write_safetensors(path, arrays, {METADATA: text, 'format': 'pt'})


def write_kohya(
  path: pathlib.Path, lora: LoRA, widths: Widths, network: str
) -> None:
  """Writes a file in the dialect of kohya's sd-scripts, with fused layers.

  Args:
    path: of the file.
    lora: by the names of diffusers.
    widths: of all linear layers of the network.
    network: 'flux' or 'sd3'.

  Raises:
    ValueError: for another network, or a layer that the original lacks.
  """
  if network not in ORIGINALS:
    raise ValueError(
      f'network = {network!r} must be one of {", ".join(map(repr, ORIGINALS))}'
      ': of others there is no dialect of kohya'
    )
  arrays, left = Arrays(), set(lora)
  for layer in ORIGINALS[network](widths):
    parts = [lora.get(part) for part in layer.parts]
    if all(part is None for part in parts):
      continue
    joined = layer.join(parts, widths)
    name = f'lora_unet_{layer.name.replace(".", "_")}'
    arrays[f'{name}.lora_down.weight'] = joined.a
    arrays[f'{name}.lora_up.weight'] = joined.b
    arrays[f'{name}.alpha'] = np.asarray(joined.alpha, np.float32)
    left -= set(layer.parts)
  if left:
    raise ValueError(
      f'{listed(sorted(left))}: the original of {network} has no such layers'
    )
  write_safetensors(path, arrays, {'format': 'pt'})
