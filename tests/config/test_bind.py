"""Specs are checked, filled in and bound, whatever the rooms are."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import pytest

from flowdistill.config import bind
from flowdistill.config.bind import ConfigError
from flowdistill.config.resolve import resolve as resolve_in


class Shape(Protocol):
  """shape() -> its area."""

  def __call__(self) -> float: ...


class Law(Protocol):
  """law(x) -> x."""

  def __call__(self, x: float, /) -> float: ...


@dataclasses.dataclass(frozen=True)
class Metres:
  """Parses itself, from 3 or {'feet': 10}."""

  metres: float | None = None
  feet: float | None = None

  @classmethod
  def of(cls, value: Any) -> 'Metres':
    value = {'metres': value} if isinstance(value, int | float) else value
    if not isinstance(value, Mapping) or len(value) != 1:
      raise TypeError(f'a length is a number or one unit, got {value!r}')
    return cls(**value)


def same(x: float) -> float:
  return x


def scaled(x: float, *, factor: float = 2.0) -> float:
  if factor == 0:
    raise ValueError('factor = 0 loses everything')
  return factor * x


def square(*, side: float = 1.0, law: Law = same) -> float:
  if side < 0:
    raise ValueError(f'side = {side} must be at least 0')
  return law(side * side)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stroke:
  """A flat section: its fields are options of what takes it."""

  flat: ClassVar[bool] = True
  weight: float = 1.0
  law: Law = same
  dashes: tuple[int, ...] = ()

  def __post_init__(self):
    if self.weight <= 0:
      raise ValueError(f'weight = {self.weight} must be above 0')


def line(
  *,
  length: float = 1.0,
  stroke: Stroke = Stroke(weight=3.0),
  ends: str = 'round',
) -> tuple[float, Stroke, str]:
  if len(stroke.dashes) > length:
    raise ValueError(f'dashes = {stroke.dashes} must fit length = {length}')
  return length, stroke, ends


class Circle:
  """A class is a room's entry as well as a function is."""

  def __init__(self, unused: int = 0, *, radius: int = 1, rngs: Any):
    self.radius = radius


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
  """A section."""

  width: float = 2.0
  margin: Metres | None = Metres(metres=0.1)
  ruled: bool = False
  spans: tuple[int, ...] = ()
  extra: dict[str, Any] = dataclasses.field(default_factory=dict)
  ink: int | str = 'black'

  def __post_init__(self):
    if self.width <= 0:
      raise ValueError(f'width = {self.width} must be above 0')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
  """A section in which there are others, and names."""

  shape: Shape
  paper: Paper = Paper(margin=None)
  more: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
  title: str | None = None


ROOMS = {
  Shape: {'square': square, 'circle': Circle, 'line': line},
  Law: {'same': same, 'scaled': scaled},
}
FULL_PAPER = {
  'width': 2.0,
  'margin': None,
  'ruled': False,
  'spans': (),
  'extra': {},
  'ink': 'black',
}


def resolve(spec, annotation=Drawing, where=''):
  return resolve_in(spec, annotation, where, ROOMS)


def bound(spec, annotation=Drawing, where=''):
  return bind.bind(resolve(spec, annotation, where), annotation, where, ROOMS)


def error(spec, annotation=Drawing, where=''):
  with pytest.raises(ConfigError) as raised:
    bound(spec, annotation, where)
  return str(raised.value)


def test_every_default_is_filled_in():
  assert resolve({'shape': 'square'}) == {
    'shape': {'name': 'square', 'side': 1.0, 'law': {'name': 'same'}},
    'paper': FULL_PAPER,
    'more': {},
    'title': None,
  }


def test_resolving_twice_changes_nothing():
  spec = {
    'shape': {'name': 'square', 'law': 'scaled'},
    'paper': {'margin': {'feet': 3}, 'spans': [1, 2], 'extra': {'a': [1]}},
    'more': {'one': 'circle', 'two': {'name': 'square', 'side': 3}},
  }
  once = resolve(spec)
  assert resolve(once) == once
  assert once['paper']['margin'] == {'feet': 3}
  assert once['paper']['spans'] == (1, 2)
  assert once['more']['one'] == {'name': 'circle', 'radius': 1}
  assert isinstance(once['more']['two']['side'], float)


def test_bound_functions_have_their_options_and_take_the_rest():
  drawing = bound(
    {
      'shape': {
        'name': 'square',
        'side': 3,
        'law': {'name': 'scaled', 'factor': 10},
      },
      'more': {'round': {'name': 'circle', 'radius': 5}},
    }
  )
  assert drawing.shape() == 90
  assert drawing.more['round'](rngs=None).radius == 5
  assert drawing.paper == Paper(margin=None)


def test_a_value_that_parses_itself():
  assert bound({'margin': 3}, Paper).margin == Metres(metres=3)
  assert bound({'margin': {'feet': 3}}, Paper).margin == Metres(feet=3)
  assert bound({'margin': Metres(feet=3)}, Paper).margin == Metres(feet=3)
  assert bound({'margin': None}, Paper).margin is None
  assert bound({}, Paper).margin == Metres(metres=0.1)


def test_a_none_of_a_section_that_is_a_default_stays():
  assert bound({'shape': 'square'}).paper.margin is None
  assert bound({'shape': 'square', 'paper': {}}).paper.margin is not None


def test_options_are_keywords_with_a_default():
  assert list(bind.options(Circle)) == ['radius']
  assert list(bind.options(scaled)) == ['factor']
  assert bind.options(Drawing)['shape'].default is bind.REQUIRED


@pytest.mark.parametrize(
  ('spec', 'expected'),
  [
    ({}, "config.shape is missing; the choices are 'square', 'circle', 'line'"),
    (
      {'shape': 'sqare'},
      "config.shape = 'sqare' does not exist; did you mean 'square'? "
      "The choices are 'square', 'circle', 'line'",
    ),
    (
      {'shape': {'name': 'zzz'}},
      "config.shape.name = 'zzz' does not exist; "
      "the choices are 'square', 'circle', 'line'",
    ),
    (
      {'shape': {'side': 3}},
      "config.shape must have a 'name'; "
      "the choices are 'square', 'circle', 'line'",
    ),
    (
      {'shape': 3},
      "config.shape = 3 (int) must be one of 'square', 'circle', 'line', "
      'or a dict with that as a name',
    ),
    (
      {'shape': {'name': 'square', 'sides': 3}},
      "config.shape.sides = 3: square takes no 'sides'; did you mean 'side'? "
      "The choices are 'side', 'law'",
    ),
    (
      {'shape': {'name': 'square', 'law': {'name': 'same', 'factor': 3}}},
      "config.shape.law.factor = 3: same takes no 'factor'; there are none",
    ),
    (
      {'shape': 'square', 'papers': {}},
      "config.papers = {}: a stage takes no 'papers'; did you mean 'paper'? "
      "The choices are 'shape', 'paper', 'more', 'title'",
    ),
    (
      {'shape': 'square', 'paper': 3},
      'config.paper = 3 (int) must be a dict with keys from '
      "['width', 'margin', 'ruled', 'spans', 'extra', 'ink']",
    ),
    (
      {'shape': 'square', 'paper': {'margin': [3]}},
      'config.paper.margin: a length is a number or one unit, got [3]',
    ),
    (
      {'shape': 'square', 'more': ['circle']},
      "config.more = ['circle'] (list) must be a dict, name -> value",
    ),
    (
      {'shape': 'square', 'more': {'a': 'sqare'}},
      "config.more.a = 'sqare' does not exist; did you mean 'square'? "
      "The choices are 'square', 'circle', 'line'",
    ),
    (
      {'shape': 'square', 'title': 3},
      'config.title = 3 (int) must be str or None',
    ),
  ],
)
def test_the_message_names_the_key_the_value_and_what_is_right(spec, expected):
  assert error(spec) == expected


@pytest.mark.parametrize(
  ('spec', 'expected'),
  [
    ({'width': '2'}, "config.p.width = '2' (str) must be float"),
    ({'width': True}, 'config.p.width = True (bool) must be float'),
    ({'width': None}, 'config.p.width = None (None) must be float'),
    ({'ruled': 1}, 'config.p.ruled = 1 (int) must be bool'),
    ({'spans': 3}, 'config.p.spans = 3 (int) must be tuple'),
    ({'extra': []}, 'config.p.extra = [] (list) must be dict'),
    ({'ink': 1.5}, 'config.p.ink = 1.5 (float) must be int or str'),
    ({'ink': True}, 'config.p.ink = True (bool) must be int or str'),
  ],
)
def test_types(spec, expected):
  assert error(spec, Paper, 'p') == expected


def test_types_that_are_right():
  spec = {'width': 3, 'ruled': True, 'spans': [1], 'extra': {'a': 1}, 'ink': 5}
  made = bound(spec, Paper)
  assert isinstance(made.width, float)
  assert (made.spans, made.extra, made.ink) == ((1,), {'a': 1}, 5)


def test_a_message_that_begins_with_an_option_goes_on_where_its_key_ends():
  assert error({'width': -1}, Paper, 'p') == (
    'config.p.width = -1.0 must be above 0'
  )
  drawing = bound({'shape': {'name': 'square', 'side': -1}}, where='a')
  with pytest.raises(ConfigError) as raised:
    drawing.shape()
  assert str(raised.value) == 'config.a.shape.side = -1.0 must be at least 0'


def test_an_error_names_the_innermost_key():
  law = {'name': 'scaled', 'factor': 0}
  drawing = bound({'shape': {'name': 'square', 'law': law}})
  with pytest.raises(ConfigError) as raised:
    drawing.shape()
  assert str(raised.value) == 'config.shape.law.factor = 0 loses everything'


def test_what_is_no_matter_of_options_keeps_its_class():
  drawing = bound({'shape': 'circle'})
  with pytest.raises(TypeError):
    drawing.shape()  # without rngs
  with pytest.raises(ConfigError, match=r'^config\.a\.b: no option at all$'):
    with bind.located('a.b', ('option',)):
      raise ValueError('no option at all')


LINE = {
  'name': 'line',
  'length': 1.0,
  'weight': 3.0,
  'law': {'name': 'same'},
  'dashes': (),
  'ends': 'round',
}


def test_a_flat_section_is_keys_of_its_owner():
  """In its place, with the defaults that the owner gives it."""
  assert list(bind.options(line)) == [*LINE][1:]
  assert resolve('line', Shape) == LINE
  assert list(resolve('line', Shape)) == list(LINE)
  assert resolve(LINE, Shape) == LINE


def test_a_flat_section_is_gathered_bytes_again():
  spec = {'name': 'line', 'law': {'name': 'scaled', 'factor': 5}, 'length': 2}
  length, stroke, ends = bound(spec | {'dashes': [1, 2]}, Shape)()
  assert (length, ends) == (2.0, 'round')
  assert stroke.law(1) == 5
  assert stroke == Stroke(weight=3.0, law=stroke.law, dashes=(1, 2))


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({'weight': -1}, 'config.a.weight = -1.0 must be above 0'),
    ({'weight': 'x'}, "config.a.weight = 'x' (str) must be float"),
    (
      {'weigth': 1},
      "config.a.weigth = 1: line takes no 'weigth'; did you mean 'weight'? "
      "The choices are 'length', 'weight', 'law', 'dashes', 'ends'",
    ),
    (
      {'stroke': {}},
      "config.a.stroke = {}: line takes no 'stroke'; the choices are "
      "'length', 'weight', 'law', 'dashes', 'ends'",
    ),
  ],
)
def test_an_error_in_a_flat_section_names_the_key_of_the_owner(
  options, expected
):
  assert error({'name': 'line', **options}, Shape, 'a') == expected


def test_an_owner_may_name_an_option_of_its_flat_section():
  drawing = bound({'name': 'line', 'dashes': [1, 1]}, Shape, 'a')
  with pytest.raises(ConfigError, match=r'^config\.a\.dashes = \(1, 1\) must'):
    drawing()


def test_suggestions():
  assert bind.suggest('adm', ['adam', 'sgd']) == (
    "did you mean 'adam'? The choices are 'adam', 'sgd'"
  )
  assert bind.suggest('xyz', ['adam']) == "the choices are 'adam'"
  assert bind.suggest('xyz', []) == 'there are none'
