"""Arrays of single layers, and of the stacks in which our networks have them.

A stack has each of its arrays once, such as 'blocks.each.qkv.kernel' [depth,
...]; of single layers they are 'blocks.0.qkv.kernel', 'blocks.1.qkv.kernel' ...
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from flowdistill.convert.rules import Arrays, Shapes

STACK = re.compile(r'(\w+)\.each\.(.+)')
LAYER = re.compile(r'(\w+)\.(\d+)\.(.+)')


def single_arrays(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Stacked arrays as views of those of single layers."""
  return _each(arrays, list)


def single_shapes(shapes: Shapes) -> Shapes:
  """Shapes of stacked arrays as those of single layers."""
  return _each(shapes, lambda shape: [shape[1:]] * shape[0])


def stacked(
  single: Mapping[str, np.ndarray], stacks: Collection[str]
) -> Arrays:
  """The inverse of `single_arrays`, of arrays in the order of their layers.

  Args:
    single: path -> array.
    stacks: the names of the stacks, such as 'blocks'.
  """
  layers: dict[str, list[np.ndarray]] = {}
  arrays = Arrays()
  for path, array in single.items():
    match = LAYER.fullmatch(path)
    if match and match[1] in stacks:
      layers.setdefault(f'{match[1]}.each.{match[3]}', []).append(array)
    else:
      arrays[path] = array
  return arrays | {path: np.stack(each) for path, each in layers.items()}


def _each(
  of: Mapping[str, Any], parts: Callable[[Any], Iterable[Any]]
) -> dict[str, Any]:
  """What stacks have as what each of their layers has."""
  single = dict[str, Any]()
  for path, whole in of.items():
    if match := STACK.fullmatch(path):
      name, inside = match.groups()
      single |= {
        f'{name}.{i}.{inside}': part for i, part in enumerate(parts(whole))
      }
    else:
      single[path] = whole
  return single
