"""Checks a config and fills in its defaults; `bind.py` defines the terms."""

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.config.bind import (
  REQUIRED,
  ConfigError,
  Option,
  Rooms,
  Spec,
  Table,
  each_of,
  is_union,
  join,
  options,
  suggest,
  without_none,
)

WHOLE = 2**63  # integers beyond it do not fit into 64 bits
LONG = 300  # characters of a value in an error
PLAIN = (bool, int, float, str, os.PathLike, np.generic)


def resolve(spec: Spec, annotation: Any, where: str, rooms: Rooms) -> Spec:
  """Checks a spec and fills in its defaults; the result is plain data.

  Raises:
    ConfigError: naming the key `where`, the value, and what is allowed.
  """
  annotation, optional = without_none(annotation)
  if spec is None and optional:
    return None
  if annotation in rooms:
    if isinstance(spec, Mapping) and hasattr(annotation, 'named'):
      spec = annotation.named(spec)
    return _resolve_named(spec, rooms[annotation], where, rooms)
  if hasattr(annotation, 'of'):
    if not isinstance(spec, annotation):
      _check_plain(spec, where)
    fields = _fields(_parse(spec, annotation, where))
    return {k: v for k, v in fields.items() if v is not None}
  if dataclasses.is_dataclass(annotation):
    fields = _fields(spec) if dataclasses.is_dataclass(spec) else spec
    return _resolve_options(fields, annotation, where, rooms)
  each = each_of(annotation)
  if each is None:
    return _check_type(spec, annotation, optional, where)
  _check_mapping(spec, where, 'a dict, name -> value')
  entries = {str(key): value for key, value in (spec or {}).items()}
  if '' in entries or len(entries) < len(spec or {}):
    raise ConfigError(
      f'config.{where} = {shown(spec)} must have names that are not empty, '
      'each once'
    )
  return {
    key: resolve(value, each, join(where, key), rooms)
    for key, value in entries.items()
  }


def _resolve_named(spec: Spec, table: Table, where: str, rooms: Rooms) -> Spec:
  key = where if isinstance(spec, str) else join(where, 'name')
  if isinstance(spec, str):
    spec = {'name': spec}
  elif callable(spec):
    spec = {'name': next((k for k, f in table.items() if f is spec), spec)}
  names = ', '.join(map(repr, table))
  _check_mapping(spec, where, f'one of {names}, or a dict with that as a name')
  if 'name' not in spec:
    raise ConfigError(
      f"config.{where} must have a 'name'; {suggest('', table)}"
    )
  name = spec['name']
  if not isinstance(name, str) or name not in table:
    raise ConfigError(
      f'config.{key} = {shown(name)} does not exist; {suggest(name, table)}'
    )
  rest = {k: v for k, v in spec.items() if k != 'name'}
  resolved = _resolve_options(rest, table[name], where, rooms, name)
  return {'name': name, **resolved}


def _resolve_options(
  spec: Spec, target: Any, where: str, rooms: Rooms, name: str = ''
) -> Spec:
  known = options(target)
  _check_mapping(spec, where, f'a dict with keys from {list(known)}')
  owner = name or (f'config.{where}' if where else 'a stage')
  for key in spec:
    if key not in known:
      raise ConfigError(
        f'config.{join(where, key)} = {shown(spec[key])}: {owner} takes no '
        f'{key!r}; {suggest(key, known)}'
      )
  return {
    key: _resolve_option(spec, key, option, join(where, key), rooms)
    for key, option in known.items()
  }


def _resolve_option(
  spec: Spec, key: str, option: Option, where: str, rooms: Rooms
) -> Spec:
  value = spec.get(key, option.default)
  if value is not REQUIRED:
    return resolve(value, option.annotation, where, rooms)
  known = rooms.get(option.annotation) or options(option.annotation)
  raise ConfigError(f'config.{where} is missing; {suggest("", known)}')


def _fields(value: Any) -> dict[str, Any]:
  return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def _parse(spec: Spec, annotation: Any, where: str) -> Any:
  if isinstance(spec, annotation):
    return spec
  try:
    return annotation.of(spec)
  except (ValueError, TypeError) as error:
    raise ConfigError(f'config.{where}: {_cut(str(error))}') from error


def _check_mapping(spec: Spec, where: str, wanted: str) -> None:
  if not isinstance(spec, Mapping):
    raise _wrong_type(spec, where, wanted)


def _check_type(
  spec: Spec, annotation: Any, optional: bool, where: str
) -> Spec:
  parts = typing.get_args(annotation) if is_union(annotation) else [annotation]
  kinds = {
    object if a is Any else typing.get_origin(a) or a: typing.get_args(a)
    for a in parts
  }
  _check_number(spec, where)
  if type(spec) is int and float in kinds and int not in kinds:
    return float(spec)
  if isinstance(spec, list) and tuple in kinds:
    spec = tuple(spec)
  surprising = isinstance(spec, bool) and not {bool, object} & set(kinds)
  if surprising or not isinstance(spec, tuple(kinds)):
    names = [kind.__name__ for kind in kinds] + ['None'] * optional
    raise _wrong_type(spec, where, ' or '.join(names))
  if isinstance(spec, tuple) and kinds.get(tuple):
    return _check_entries(spec, kinds[tuple], where)
  _check_plain(spec, where)
  return spec


def _check_entries(
  spec: tuple[Any, ...], kinds: tuple[Any, ...], where: str
) -> tuple[Any, ...]:
  """Checks the types in a tuple: all the same, or one for each place."""
  if kinds[-1] is Ellipsis:
    kinds = kinds[:1] * len(spec)
  if len(spec) != len(kinds):
    wanted = f'a list of {len(kinds)}'
    raise ConfigError(f'config.{where} = {shown(spec)} must be {wanted}')
  return tuple(
    _check_type(each, kind, False, f'{where}[{i}]')
    for i, (each, kind) in enumerate(zip(spec, kinds, strict=True))
  )


def _check_plain(spec: Spec, where: str) -> None:
  """Refuses what a record of the config could not hold, at any depth."""
  _check_number(spec, where)
  if isinstance(spec, Mapping):
    for key, value in spec.items():
      _check_plain(value, join(where, key))
  elif isinstance(spec, list | tuple):
    for i, value in enumerate(spec):
      _check_plain(value, f'{where}[{i}]')
  elif not isinstance(spec, PLAIN) and spec is not None:
    raise _wrong_type(spec, where, 'a number, a string, a list or a dict')


def _check_number(spec: Spec, where: str) -> None:
  """Refuses NaN, infinities, and integers that no array can hold."""
  if isinstance(spec, float) and not math.isfinite(spec):
    raise ConfigError(f'config.{where} = {spec} must be finite')
  if isinstance(spec, int) and not -WHOLE <= spec < WHOLE:
    raise ConfigError(
      f'config.{where} = {shown(spec)} must be an integer in [-2**63, 2**63)'
    )


def _wrong_type(spec: Spec, where: str, wanted: str) -> ConfigError:
  kind = 'None' if spec is None else type(spec).__name__
  return ConfigError(
    f'config.{where} = {shown(spec)} ({kind}) must be {wanted}'
  )


def shown(value: Any) -> str:
  """The value as Python spells it, cut if it is long."""
  try:
    text = repr(value)
  except ValueError:  # an integer of thousands of digits
    if isinstance(value, int):
      return f'an integer of {value.bit_length()} bits'
    return f'a {type(value).__name__} with an integer of thousands of digits'
  return _cut(text)


def _cut(text: str) -> str:
  """The text without the middle of a long one."""
  return text if len(text) <= LONG else f'{text[:LONG]}...{text[-LONG // 2 :]}'
