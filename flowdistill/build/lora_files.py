"""Files of LoRA for a network of ours, by the rules of its weights.

Both functions take arrays and shapes by our paths, those of the network's own
weights and those of its factors: 'double.each.text.up.kernel' and
'double.each.text.up.lora_a'.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.build.foreign import converter
from flowdistill.config.bind import suggest
from flowdistill.convert.diffusers_writing import FORMATS
from flowdistill.convert.lora import (
  FACTOR,
  LoRA,
  Widths,
  from_ours,
  to_ours,
  widths_of,
)
from flowdistill.convert.lora_files import (
  read_lora,
  write_diffusers,
  write_kohya,
)
from flowdistill.convert.names import listed
from flowdistill.convert.rules import Arrays, Rule, Shapes, shapes_of
from flowdistill.convert.stacked import single_shapes

DIFFUSERS, KOHYA = DIALECTS = 'diffusers', 'kohya'
"""'diffusers' is right in diffusers and in ComfyUI."""


def write_lora_file(
  path: pathlib.Path,
  network: str,
  arrays: Mapping[str, np.ndarray],
  scale: float,
  dialect: str = DIFFUSERS,
) -> None:
  """Writes the factors of a network.

  Args:
    path: of the file, which ends in .safetensors.
    network: its name.
    arrays: by our paths.
    scale: α / r.
    dialect: a name in DIALECTS.

  Raises:
    ValueError: if there is no such dialect, or none for this network, or a
      layer with factors is not linear, or as `check_base`.
  """
  if dialect not in DIALECTS:
    raise ValueError(
      f'dialect = {dialect!r} must be one; {suggest(dialect, DIALECTS)}'
    )
  check_base(network, shapes_of(arrays))
  rules, widths = _rules(network, shapes_of(arrays))
  lora = from_ours(arrays, scale, rules)
  if not lora:
    raise ValueError('the network has no factors of a LoRA')
  if dialect == KOHYA:
    write_kohya(path, lora, widths, network)
  else:
    write_diffusers(path, lora)


def updates_of(
  network: str, arrays: Mapping[str, np.ndarray], scale: float
) -> dict[str, np.ndarray]:
  """Name of a weight in diffusers -> its update (α / r) B A, [out, in].

  Args:
    network: its name.
    arrays: by our paths.
    scale: α / r.
  """
  rules, _ = _rules(network, shapes_of(arrays))
  return {
    f'{name}.weight': np.asarray(factors.delta, np.float32)
    for name, factors in from_ours(arrays, scale, rules).items()
  }


def is_factor(path: str) -> bool:
  """Whether an array of ours is a factor of a LoRA."""
  return FACTOR.fullmatch(path) is not None


def check_base(network: str, shapes: Shapes) -> None:
  """Checks that diffusers has a network without its factors.

  Args:
    network: its name.
    shapes: our path -> shape.

  Raises:
    ValueError: if it has no such class, or the class lacks some arrays, as the
      embedding of a second time.
  """
  if network not in FORMATS:
    raise ValueError(
      f'network.name = {network!r} must be one of '
      f'{", ".join(map(repr, FORMATS))} for a file of LoRA'
    )
  rules, _ = _rules(network, shapes)
  names = sorted(rule.theirs for rule in rules)
  if own := [n for n in names if n.startswith(FORMATS[network].own)]:
    raise ValueError(
      f'{listed(own)}: the class of diffusers has no such arrays, and factors '
      'alone are not the student. Write all weights, merged, or train it with '
      "target_time = 'midpoint' and without scalars or labels"
    )


def read_updates(path: pathlib.Path, network: str, shapes: Shapes) -> LoRA:
  """The updates in a file by the names of diffusers.

  Args:
    path: of the file, in any dialect.
    network: its name.
    shapes: our path -> shape, of the network without factors.

  Raises:
    ValueError: as `read_lora`.
  """
  _, widths = _rules(network, shapes)
  return read_lora(path, widths, network)


def read_lora_file(
  path: pathlib.Path, network: str, shapes: Shapes, scale: float
) -> Arrays:
  """The factors in a file by our paths, float32.

  Args:
    path: of the file, in any dialect.
    network: its name.
    shapes: our path -> shape.
    scale: α / r of ours, by which B is divided.

  Raises:
    ValueError: as `read_lora` and `to_ours`.
  """
  rules, widths = _rules(network, shapes)
  lora = read_lora(path, widths, network)
  try:
    return to_ours(lora, scale, shapes, rules)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _rules(network: str, shapes: Shapes) -> tuple[list[Rule], Widths]:
  """The rules of single layers, and the widths of the linear ones."""
  own: dict[str, Any] = {
    path: shape for path, shape in shapes.items() if not FACTOR.fullmatch(path)
  }
  single = single_shapes(own)
  rules = converter(network).make_rules(single, 0)
  return rules, widths_of(single, rules)
