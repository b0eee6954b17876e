"""A network in a folder of diffusers: config.json, and weights in safetensors.

The weights are in one file, or in several with an index.

Source of the layout: `ModelMixin.save_pretrained` of
https://github.com/huggingface/diffusers, 0.42.
"""

import json
import pathlib
from typing import Any

from flowdistill.convert.diffusers_classes import CLASSES, options_of
from flowdistill.convert.names import listed
from flowdistill.convert.safetensors_files import Stored
from flowdistill.convert.saved_network import (
  SavedNetwork,
  check_types,
  opened,
)

CONFIG, CLASS = 'config.json', '_class_name'
NAME = 'diffusion_pytorch_model'
INDEX, MAP = f'{NAME}.safetensors.index.json', 'weight_map'
LAYERS = {'num_layers', 'num_single_layers'}
LONGEST = 255  # characters of the name of a file


def is_folder_of_diffusers(path: pathlib.Path) -> bool:
  """Whether a folder has a config.json of a class of diffusers."""
  try:
    return CLASS in json.loads((path / CONFIG).read_text())
  except (OSError, ValueError, TypeError, RecursionError):
    return False


def class_of(path: pathlib.Path) -> Any:
  """What a config.json names as its class."""
  return _json(path / CONFIG).get(CLASS)


def open_folder(path: pathlib.Path) -> SavedNetwork:
  """Reads the config, and the headers of all files.

  Raises:
    ValueError: naming the file, if one is missing, damaged or cut short, a
      tensor is in no file or in two, or has a type that is not read, the class
      is not known, or there are more layers than tensors.
  """
  config = _json(path / CONFIG)
  name = config.get(CLASS)
  if not isinstance(name, str) or name not in CLASSES:
    raise ValueError(
      f'{path / CONFIG} is of the class {name!r}; those that are read are '
      f'{", ".join(CLASSES)}'
    )
  options = options_of(config)
  tensors = _tensors(path)
  check_types(tensors)
  for key in LAYERS & options.keys():
    if isinstance(number := options[key], int) and number > len(tensors):
      raise ValueError(
        f'{path / CONFIG}: {key} = {number} must be at most {len(tensors)}, '
        'the number of tensors'
      )
  return SavedNetwork(path, path / CONFIG, CLASSES[name], options, tensors)


def _json(path: pathlib.Path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text())
  except OSError as error:
    raise ValueError(f'{path} cannot be read: {error.strerror}') from error
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path} is no JSON: {error}') from error
  if not isinstance(value, dict):
    raise ValueError(f'{path} must be an object')
  return value


def _tensors(path: pathlib.Path) -> dict[str, Stored]:
  """All tensors, of the files of the index, or of the only one."""
  if not (path / INDEX).exists():
    files = sorted(path.glob(f'{NAME}*.safetensors'))
    if len(files) != 1:
      found = listed([file.name for file in files]) or 'none of them'
      raise ValueError(
        f'{path} must have one {NAME}*.safetensors, or {INDEX}; it has {found}'
      )
    return opened(files[0])
  where = _json(path / INDEX).get(MAP)
  if not isinstance(where, dict) or not all(map(_is_name, where.values())):
    raise ValueError(
      f'{path / INDEX} must have a {MAP} of tensors to names of files'
    )
  found = dict[str, Stored]()
  for name in sorted(set(where.values())):
    if not (path / name).is_file():
      raise ValueError(
        f'{path / INDEX} names {name}, and there is no such file'
      )
    own = opened(path / name)
    wanted = {tensor for tensor, file in where.items() if file == name}
    if other := sorted(own.keys() ^ wanted):
      raise ValueError(
        f'{path / name} and {path / INDEX} do not agree on {listed(other)}'
      )
    found |= own
  return found


def _is_name(value: Any) -> bool:
  """Whether it is a file in the folder itself."""
  return (
    isinstance(value, str)
    and pathlib.PurePath(value).name == value != ''
    and len(value) <= LONGEST
  )
