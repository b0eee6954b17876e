"""Parses the VALUE of --NAME=VALUE by the type of the option."""

import ast
from typing import Any

from flowdistill.config.sampling import Spec

WANTED: dict[Any, str] = {
  str: 'str',
  int: 'int',
  float: 'float',
  bool: 'true or false',
  int | None: 'int, or none for an adaptive sampler',
  Spec: "like 'gamma=0.3', with commas between several",
  str | Spec: "a name, or like 'name=shifted, shift=2'",
  float | Spec | None: "a number, or like 'scale=2, low=0.2, high=0.8'",
}
SPELLED = {'true': True, 'false': False, 'none': None}


def parse(text: str, kind: Any) -> Any:
  """The text as a value of a type in WANTED; ValueError for other text."""
  try:
    return _parse(text, kind)
  except ValueError as error:
    raise ValueError(f'must be {WANTED[kind]}') from error


def _parse(text: str, kind: Any) -> Any:
  if kind in (str, int, float):
    return kind(text)
  if kind is bool:
    return ('false', 'true').index(text.lower()) == 1
  if kind == int | None:
    return None if text.lower() == 'none' else int(text)
  if kind == Spec or '=' in text:
    return _pairs(text)
  return text if kind == str | Spec else float(text)


def _pairs(text: str) -> Spec:
  """'gamma=0.3, name=shifted', parsed as the arguments of a Python call."""
  try:
    call = ast.parse(f'f({text})', mode='eval').body
  except SyntaxError as error:
    raise ValueError('must be NAME=VALUE') from error
  match call:
    case ast.Call(func=ast.Name(), args=[], keywords=[_, *_] as pairs):
      values = {str(pair.arg): _value(pair.value) for pair in pairs}
      if len(values) == len(pairs) and 'None' not in values:
        return values
  raise ValueError('must be NAME=VALUE, with each name once')


def _value(node: ast.expr) -> Any:
  """A name that Python does not know is a string."""
  if isinstance(node, ast.Name):
    return SPELLED.get(node.id.lower(), node.id)
  return ast.literal_eval(node)
