"""Turns the data of a config into functions with their options bound.

A *spec* is plain data: a number, a dict. An *annotation* says what it means:

  a key of `rooms`        {'name': 'adam', 'b1': 0.9}, a function of that table
  a dataclass with `of`   a value that is parsed, such as a length
  any other dataclass     a section: its fields are the keys
  Mapping[str, A]         any names, each an A
  int, float | None, ...  itself

The options of a function are its keyword-only parameters that have a default.
If such a parameter is a section with a ClassVar `flat = True`, its fields are
options of the function itself; `bind` builds the section from them.
`resolve.py` checks a spec and fills in its defaults; `bind` makes the object.
"""

import contextlib
import dataclasses
import difflib
import functools
import inspect
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

Spec = Any
Table = Mapping[str, Callable[..., Any]]
Rooms = Mapping[Any, Table]


class ConfigError(ValueError):
  """Something in a config, an argument or an override is wrong."""


@dataclasses.dataclass(frozen=True)
class Option:
  """A key of a function or a section; `default` may be `REQUIRED`."""

  annotation: Any
  default: Any


REQUIRED = inspect.Parameter.empty


def options(target: Callable[..., Any]) -> dict[str, Option]:
  """The options of a function, a class or a section, by name."""
  if dataclasses.is_dataclass(target):
    hints = typing.get_type_hints(target)
    return {
      f.name: Option(hints[f.name], _field_default(f))
      for f in dataclasses.fields(target)
    }
  known: dict[str, Option] = {}
  for name, option in _parameters(target).items():
    known |= _flattened(option) if _is_flat(option) else {name: option}
  return known


def _parameters(target: Callable[..., Any]) -> dict[str, Option]:
  """The keyword-only parameters with a default, flat sections as they are."""
  function = target.__init__ if inspect.isclass(target) else target
  hints = typing.get_type_hints(function)
  return {
    name: Option(hints.get(name, Any), p.default)
    for name, p in inspect.signature(function).parameters.items()
    if p.kind is p.KEYWORD_ONLY and p.default is not REQUIRED
  }


def _is_flat(option: Option) -> bool:
  return getattr(option.annotation, 'flat', False) is True


def _flattened(section: Option) -> dict[str, Option]:
  """The fields of a flat section, with the values of its default."""
  return {
    name: Option(field.annotation, getattr(section.default, name))
    for name, field in options(section.annotation).items()
  }


def each_of(annotation: Any) -> Any:
  """A of Mapping[str, A], None of any other annotation."""
  if typing.get_origin(annotation) is not Mapping:
    return None
  return typing.get_args(annotation)[1]


def without_none(annotation: Any) -> tuple[Any, bool]:
  """A and True for A | None; any other annotation and False."""
  args = typing.get_args(annotation)
  if not is_union(annotation) or type(None) not in args:
    return annotation, False
  rest = tuple(a for a in args if a is not type(None))
  return functools.reduce(operator.or_, rest), True


def nearest(word: Any, choices: Iterable[str]) -> str | None:
  """The choice with the nearest spelling, None if no choice is similar."""
  if not isinstance(word, str | os.PathLike):
    return None
  text = str(word)[:200]
  near = difflib.get_close_matches(text, choices, n=1, cutoff=0.5)
  return near[0] if near else None


def suggest(word: Any, choices: Iterable[str]) -> str:
  """For an error message: "did you mean 'x'? The choices are 'x', 'y'"."""
  choices = list(choices)
  if not choices:
    return 'there are none'
  listed = f'he choices are {", ".join(map(repr, choices))}'
  near = nearest(word, choices)
  return f'did you mean {near!r}? T{listed}' if near else f't{listed}'


def bind(spec: Spec, annotation: Any, where: str, rooms: Rooms) -> Any:
  """The object that a resolved spec describes.

  A named spec becomes its function with the options bound, a section an
  instance of its dataclass. A ValueError that they raise, now or when they are
  called, becomes a ConfigError that names the key.
  """
  annotation, _ = without_none(annotation)
  if spec is None:
    return None
  if annotation in rooms:
    target = rooms[annotation][spec['name']]
    bound = _regrouped(target, _bind_all(spec, target, where, rooms), where)
    return _located(target, bound, where)
  if hasattr(annotation, 'of'):
    return annotation.of(spec)
  if dataclasses.is_dataclass(annotation):
    section: Any = annotation
    return _located(section, _bind_all(spec, section, where, rooms), where)()
  each = each_of(annotation)
  if each is not None:
    return {k: bind(v, each, join(where, k), rooms) for k, v in spec.items()}
  return spec


@contextlib.contextmanager
def located(where: str, options: Iterable[str] = ()) -> Generator[None]:
  """Turns a ValueError in its context into a ConfigError that names the key.

  A message that begins with one of `options`, as in 'rate = 2 must lie in
  [0, 1]', is appended to the key: 'config.a.rate = 2 must lie in [0, 1]'.
  """
  try:
    yield
  except ConfigError:
    raise
  except ValueError as error:
    first = re.match(r'\w*', str(error))
    names_option = first is not None and first[0] in options
    key = join(where, error) if names_option else f'{where}: {error}'
    raise ConfigError(f'config.{key}') from error


def join(where: str, key: Any) -> str:
  """'a.b' and 'c' -> 'a.b.c'."""
  return f'{where}.{key}' if where else str(key)


def _located(
  target: Callable[..., Any], bound_options: Mapping[str, Any], where: str
) -> Callable[..., Any]:
  """`target` with its options bound; its errors name their keys."""
  known = options(target)

  @functools.wraps(target, updated=())
  def bound(*args: Any, **kwargs: Any) -> Any:
    with located(where, known):
      return target(*args, **bound_options, **kwargs)

  return bound


def _field_default(field: dataclasses.Field[Any]) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return REQUIRED if field.default is dataclasses.MISSING else field.default


def _bind_all(
  spec: Spec, target: Any, where: str, rooms: Rooms
) -> dict[str, Any]:
  return {
    key: bind(spec[key], option.annotation, join(where, key), rooms)
    for key, option in options(target).items()
  }


def _regrouped(
  target: Callable[..., Any], bound: dict[str, Any], where: str
) -> dict[str, Any]:
  """Bound options as the parameters of `target`: flat sections are rebuilt."""
  for name, option in _parameters(target).items():
    if _is_flat(option):
      fields = {key: bound.pop(key) for key in options(option.annotation)}
      bound[name] = _located(option.annotation, fields, where)()
  return bound


def is_union(annotation: Any) -> bool:
  """Whether an annotation is A | B."""
  return typing.get_origin(annotation) in (typing.Union, types.UnionType)
