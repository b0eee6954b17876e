"""A network in a folder of diffusers: config.json, and weights in safetensors.

The weights are in one file, or in several with an index. Tensors are read one
by one, and each array of ours is made of those that it has, so that beside the
arrays that are already placed there is never more than one in memory.

Source of the layout: `ModelMixin.save_pretrained` of
https://github.com/huggingface/diffusers, 0.42.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError

from flowdistill.convert import kinds
from flowdistill.convert.diffusers_classes import CLASSES, options_of
from flowdistill.convert.lora import LoRA
from flowdistill.convert.names import listed
from flowdistill.convert.rules import Rule, Shapes
from flowdistill.convert.safetensors_files import Stored, stored_tensors
from flowdistill.convert.stacked import STACK, single_shapes

CONFIG, CLASS = 'config.json', '_class_name'
NAME = 'diffusion_pytorch_model'
INDEX, MAP = f'{NAME}.safetensors.index.json', 'weight_map'
LAYERS = {'num_layers', 'num_single_layers'}
FLOATS = ('F64', 'F32', 'F16', 'BF16')
LONGEST = 255  # characters of the name of a file


@dataclasses.dataclass(frozen=True)
class DiffusersFolder:
  """A network that diffusers has saved.

  Attributes:
    path: of the folder.
    network: our name of it.
    options: its config.json without what diffusers notes for itself.
    tensors: name -> tensor, over all files.
  """

  path: pathlib.Path
  network: str
  options: Mapping[str, Any]
  tensors: Mapping[str, Stored]

  @property
  def files(self) -> list[pathlib.Path]:
    """The files that it is read from, in order."""
    weights = {tensor.path for tensor in self.tensors.values()}
    return [self.path / CONFIG, *sorted(weights)]


def is_folder_of_diffusers(path: pathlib.Path) -> bool:
  """Whether a folder has a config.json of a class of diffusers."""
  try:
    return CLASS in json.loads((path / CONFIG).read_text())
  except (OSError, ValueError, TypeError, RecursionError):
    return False


def class_of(path: pathlib.Path) -> Any:
  """What a config.json names as its class."""
  return _json(path / CONFIG).get(CLASS)


def open_folder(path: pathlib.Path) -> DiffusersFolder:
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
  for tensor in tensors.values():
    if tensor.dtype not in FLOATS:
      raise ValueError(
        f'{tensor.path}: {tensor.name} has the type {tensor.dtype}; weights '
        f'must be one of {", ".join(FLOATS)}'
      )
  for key in LAYERS & options.keys():
    if isinstance(number := options[key], int) and number > len(tensors):
      raise ValueError(
        f'{path / CONFIG}: {key} = {number} must be at most {len(tensors)}, '
        'the number of tensors'
      )
  return DiffusersFolder(path, CLASSES[name], options, tensors)


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
    return _opened(files[0])
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
    own = _opened(path / name)
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


def _opened(path: pathlib.Path) -> dict[str, Stored]:
  if (kind := kinds.kind_of(path)) != kinds.SAFETENSORS:
    raise ValueError(f'{path} is {kind}, and must be .safetensors')
  try:
    return stored_tensors(path)
  except (SafetensorError, *kinds.BROKEN) as error:
    raise ValueError(f'{path} is cut short or damaged: {error}') from error


@dataclasses.dataclass(frozen=True)
class Reading:
  """How our arrays are made of tensors.

  Attributes:
    shapes: our path -> shape; layers are stacked.
    parts: our path -> (rule, tensor) of each layer, or of the one array.
    lora: name of a layer -> what is added to its weight.
  """

  shapes: Shapes
  parts: Mapping[str, list[tuple[Rule, Stored]]]
  lora: LoRA = dataclasses.field(default_factory=dict)

  def array(self, path: str, dtype: np.dtype) -> np.ndarray:
    """One of our arrays.

    Raises:
      ValueError: naming the tensor, if it is not finite.
    """
    whole = np.empty(self.shapes[path], dtype)
    parts = self.parts[path]
    layers = whole if STACK.fullmatch(path) else whole[None]
    for layer, (rule, tensor) in zip(layers, parts, strict=True):
      array = rule.read(self._updated(tensor))
      if not np.isfinite(array).all():
        raise ValueError(
          f'{tensor.path}: {tensor.name} has numbers that are not finite'
        )
      layer[...] = array
    return whole

  def _updated(self, tensor: Stored) -> np.ndarray:
    """A tensor as it is, or W + ΔW in float32."""
    name = tensor.name.removesuffix('.weight')
    if name not in self.lora:
      return tensor.read()
    return tensor.read().astype(np.float32) + self.lora[name].delta


def plan_reading(
  folder: DiffusersFolder,
  shapes: Shapes,
  make_rules: Callable[[Shapes], list[Rule]],
) -> Reading:
  """Which tensors make our arrays.

  Args:
    folder: of the network.
    shapes: our path -> shape; layers are stacked.
    make_rules: of single layers.

  Raises:
    ValueError: listing the tensors that no array has, or that are missing, or
      naming one of another shape.
  """
  single = single_shapes(shapes)
  rules = {rule.ours: rule for rule in make_rules(single)}
  names = {rule.theirs for rule in rules.values()}
  for wrong, what in (
    (sorted(folder.tensors.keys() - names), 'are not used by the network'),
    (sorted(names - folder.tensors.keys()), 'are missing'),
  ):
    if wrong:
      raise ValueError(f'{folder.path}: {listed(wrong)}: these tensors {what}')
  for rule in rules.values():
    _check_shape(folder.tensors[rule.theirs], rule, single[rule.ours])
  parts: dict[str, list[tuple[Rule, Stored]]] = {}
  for path, rule in rules.items():
    parts.setdefault(_stack_of(path, shapes), []).append(
      (rule, folder.tensors[rule.theirs])
    )
  return Reading(shapes, parts)


def _stack_of(path: str, shapes: Shapes) -> str:
  """'blocks.3.qkv.kernel' -> 'blocks.each.qkv.kernel', if that is ours."""
  if path in shapes:
    return path
  name, _, inside = path.split('.', 2)
  return f'{name}.each.{inside}'


def _check_shape(tensor: Stored, rule: Rule, shape: tuple[int, ...]) -> None:
  wanted = rule.write(np.broadcast_to(np.empty((), np.float32), shape)).shape
  if tensor.shape != wanted:
    raise ValueError(
      f'{tensor.path}: {tensor.name} has the shape {list(tensor.shape)}; for '
      f'this network it must be {list(wanted)}'
    )
