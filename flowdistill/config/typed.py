"""Reads the VALUE of --NAME=VALUE by the type of the option or of the key."""

import ast
import re
import typing
import warnings
from collections.abc import Mapping
from typing import Any

from flowdistill.config.bind import is_union, without_none
from flowdistill.config.sampling import Spec

WANTED: dict[Any, str] = {
  str: 'str',
  int: 'int',
  float: 'float',
  bool: 'true or false',
  float | None: 'a number, like 0.1',
  tuple[float, ...]: 'numbers with commas, like 0.05,0.1',
  int | None: 'int, or none for an adaptive sampler',
  Spec: "like 'gamma=0.3', with commas between several",
  str | Spec | None: "a name, or like 'name=shifted, shift=2'",
  tuple[int, ...]: "integers with commas, like '32,32,3'",
  tuple[str, ...]: "names with commas, like 'euler,heun'",
  tuple[int | None, ...]: (
    "integers with commas, like '1,2,4', or none for an adaptive sampler"
  ),
  tuple[
    Spec, ...
  ]: "like 'gamma=0.3', with ; between several: 'gamma=0; gamma=1'",
  tuple[str | Spec | None, ...]: (
    "names with commas, or like 'uniform; name=shifted, shift=2'"
  ),
  float | Spec | None: "a number, or like 'scale=2, low=0.2, high=0.8'",
  tuple[float | Spec | None, ...]: (
    "numbers with commas, or like '1.5; scale=2, low=0.2, high=0.8'"
  ),
}
QUOTES = ("'", '"')
WORD = re.compile(r"""[^\s'"(){}\[\],;=]+""")
SPELLED = {'true': True, 'false': False, 'none': None}
# What Python's parser raises for text that is no literal, or a huge one.
NO_LITERAL = (
  MemoryError,
  RecursionError,
  SyntaxError,
  TypeError,
  ValueError,
)


def parse(text: str, kind: Any) -> Any:
  """The text as a value of a type in WANTED; ValueError for other text."""
  try:
    return _parse(text, kind)
  except NO_LITERAL as error:
    raise ValueError(f'must be {WANTED[kind]}') from error


def literal(text: str) -> Any:
  """The Python literal, or true, false or none in any case, or the text."""
  if text.lower() in SPELLED:
    return SPELLED[text.lower()]
  try:
    with warnings.catch_warnings(action='ignore'):
      value = ast.literal_eval(text)
    repr(value)  # fails if a number is too long to be shown
  except NO_LITERAL:
    return text
  return value


def read(text: str, annotation: Any) -> Any:
  """The value of a key with this annotation, as `literal` unless it is text.

  Where a string is wanted, 2024, 1e5 and true are strings, and quotes are taken
  off; none is None where that is allowed. `resolve` checks the result.
  """
  annotation, optional = without_none(annotation)
  value = literal(text)
  if isinstance(value, str) or (value is None and optional):
    return value
  if hasattr(annotation, 'of') and not isinstance(value, Mapping):
    as_text = _takes(annotation, text) and not _takes(annotation, value)
    return text if as_text else value
  parts = typing.get_args(annotation) if is_union(annotation) else [annotation]
  kinds = {typing.get_origin(part) or part for part in parts}
  if str in kinds and not isinstance(value, tuple(kinds - {str, Any})):
    return text
  return value


def _takes(annotation: Any, value: Any) -> bool:
  """Whether a section with `of`, such as a length, can be read from it."""
  try:
    annotation.of(value)
  except (TypeError, ValueError):
    return False
  return True


def _parse(text: str, kind: Any) -> Any:
  if kind is str:
    return text
  if kind in (int, float):
    return _number(text, kind)
  if kind is bool:
    return ('false', 'true').index(text.lower()) == 1
  if kind in (int | None, float | None):
    number = int if kind == int | None else float
    return None if text.lower() == 'none' else _number(text, number)
  if typing.get_origin(kind) is tuple:
    return tuple(_parse(part, typing.get_args(kind)[0]) for part in split(text))
  if kind == Spec or '=' in text:
    return _pairs(text)
  if text.lower() == 'none':
    return None
  return text if kind == str | Spec | None else _number(text, float)


def split(text: str) -> list[str]:
  """The parts between semicolons, or commas if none is like 'gamma=0.3'.

  Raises:
    ValueError: if one is empty.
  """
  parts = text.split(';' if ';' in text or '=' in text else ',')
  if not all(part.strip() for part in parts):
    raise ValueError('must not have an empty part')
  return [part.strip() for part in parts]


def _number(text: str, kind: Any) -> Any:
  """Without the digits of other scripts, which Python would take."""
  if not text.isascii():
    raise ValueError('must be a number in the digits 0 to 9')
  return kind(text)


def _pairs(text: str) -> Spec:
  """'gamma=0.3, name=shifted': Python literals, or words such as a path."""
  values: Spec = {}
  for part in _between_commas(text):
    name, equals, value = (each.strip() for each in part.partition('='))
    if not equals or not name.isidentifier() or name in (*values, 'None'):
      raise ValueError('must be NAME=VALUE, with each name once')
    values[name] = _value(value)
  return values


def _between_commas(text: str) -> list[str]:
  """The parts between commas that are in no brackets and no quotes."""
  parts, depth, quote = [''], 0, ''
  for letter in text:
    if letter == ',' and not depth and not quote:
      parts.append('')
      continue
    if quote or letter in QUOTES:
      quote = '' if letter == quote else quote or letter
    else:
      depth += (letter in '([{') - (letter in ')]}')
    parts[-1] += letter
  return parts


def _value(text: str) -> Any:
  """A literal, or a word; what is nearly a literal is refused."""
  value = literal(text)
  if value == text and not WORD.fullmatch(text):
    raise ValueError(f'must be a value or a word, and is {text}')
  return value
