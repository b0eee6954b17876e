"""The classes of pictures: the folders that they are in."""

import re
from collections.abc import Sequence

import numpy as np

ORDERS = ('text', 'natural')
DIGITS = re.compile('([0-9]+)')


def labels_of(
  names: Sequence[str], *, order: str = 'text', through: bool = False
) -> tuple[np.ndarray, list[str]]:
  """(labels int32 [n], class names) of all pictures.

  Args:
    names: of the pictures, with / between folders.
    order: of the class names: 'text', or 'natural', in which 2 precedes 10.
    through: whether a single folder around all others is looked through.

  Raises:
    ValueError: if a picture is not in a folder, or a class name is not UTF-8.
  """
  paths = [name.lstrip('/').split('/') for name in names]
  for name, path in zip(names, paths, strict=True):
    if len(path) == 1:
      raise ValueError(
        f'by_class = True must be False, as {name!r} is not in a folder of its '
        'class'
      )
  depth = around(paths) if through else 0
  folders = [path[depth] for path in paths]
  classes = sorted(set(folders), key=natural if order == 'natural' else None)
  check_names(classes)
  label = {name: k for k, name in enumerate(classes)}
  return np.asarray([label[name] for name in folders], np.int32), classes


def around(paths: Sequence[Sequence[str]]) -> int:
  """How many single folders lie around at least two; 0 if no two follow."""
  depth = 0
  while all(len(path) > depth + 1 for path in paths):
    if len({path[depth] for path in paths}) > 1:
      return depth
    depth += 1
  return 0


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
  """Sorts digits by their number: 'a2' before 'a10', 'a02' before 'a2'."""
  parts = DIGITS.split(name)  # text and digits in turn
  digits = [part.lstrip('0') for part in parts[1::2]]
  parts[1::2] = digits
  lengths = [len(part) if k % 2 else 0 for k, part in enumerate(parts)]
  return [*zip(lengths, parts, strict=True)], name


def check_order(order: str) -> None:
  """Raises ValueError for an unknown order."""
  if order not in ORDERS:
    choices = ' or '.join(map(repr, ORDERS))
    raise ValueError(f'class_order = {order!r} must be {choices}')


def check_names(classes: Sequence[str]) -> None:
  """Raises ValueError for a class whose name cannot be recorded."""
  for name in classes:
    try:
      name.encode()
    except UnicodeEncodeError as error:
      raise ValueError(
        f'by_class = True: the name of the class folder {name!r} must be '
        'UTF-8; rename it'
      ) from error
