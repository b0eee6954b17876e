"""Line charts as geometry, which a template draws as SVG.

Coordinates are pixels of a view box of WIDTH × HEIGHT, y downwards.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 40  # margins
APART = 24  # pixels between two numbers at an axis
COLOURS = 8  # of the style sheet
RATIO = (
  4  # of the largest to the least value, above which an axis is logarithmic
)
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Tick:
  """A number at an axis, and its place along it."""

  at: float
  text: str


@dataclasses.dataclass(frozen=True)
class Mark:
  """A point of a line, what it says when pointed at, and its error bar."""

  x: float
  y: float
  text: str
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Line:
  """A line: its name, its number for the style sheet, its path and points."""

  name: str
  style: int
  path: str
  marks: Sequence[Mark]


@dataclasses.dataclass(frozen=True)
class Chart:
  """A chart with its title, the name of its x-axis, its ticks and lines."""

  title: str
  about: str
  x_title: str
  x_ticks: Sequence[Tick]
  y_ticks: Sequence[Tick]
  lines: Sequence[Line]
  width: int = WIDTH
  height: int = HEIGHT
  left: int = LEFT
  right: int = WIDTH - RIGHT
  top: int = TOP
  bottom: int = HEIGHT - BOTTOM


@dataclasses.dataclass(frozen=True)
class Scale:
  """Values from `low` to `high` -> pixels from `start` to `end`."""

  low: float
  high: float
  start: float
  end: float
  log: bool

  def __call__(self, value: float) -> float:
    low, high, value = map(self._bent, (self.low, self.high, value))
    share = (value - low) / (high - low)
    return round(self.start + share * (self.end - self.start), 1)

  def _bent(self, value: float) -> float:
    return math.log(value) if self.log else value


def draw(
  title: str,
  lines: Mapping[str, Points],
  styles: Mapping[str, int],
  *,
  about: str = '',
  x_title: str,
  marked: bool = True,
  log_x: bool = False,
  spreads: Mapping[str, Mapping[float, float]] = MappingProxyType({}),
) -> Chart:
  """A chart of lines, each with at least one point of finite numbers.

  Args:
    title: of the chart.
    lines: name -> points (x, y), in the order of x.
    styles: name -> its number for the style sheet.
    about: is written below the title.
    x_title: the name of the x-axis.
    marked: whether points have marks, and numbers under the axis are theirs.
    log_x: whether the x-axis is logarithmic, if all x are positive.
    spreads: name -> x -> half the length of an error bar.
  """
  xs = [x for points in lines.values() for x, _ in points]
  ys = [
    y + sign * spreads.get(name, {}).get(x, 0.0)
    for name, points in lines.items()
    for x, y in points
    for sign in (-1, 1)
  ]
  x_scale = _scale(xs, LEFT + 8, WIDTH - RIGHT - 8, log_x and min(xs) > 0)
  y_scale = _scale(ys, HEIGHT - BOTTOM - 8, TOP + 8, _is_log(ys))
  values = sorted(set(xs)) if marked else _nice(x_scale)
  return Chart(
    title,
    about,
    x_title,
    _ticks(values, x_scale, APART),
    _ticks(_nice(y_scale), y_scale, APART),
    [
      Line(
        name,
        styles[name] % COLOURS,
        'M' + 'L'.join(f'{x_scale(x):g} {y_scale(y):g}' for x, y in points),
        _marks(name, points, x_scale, y_scale, spreads.get(name, {}))
        if marked
        else (),
      )
      for name, points in lines.items()
    ],
  )


def _marks(
  name: str,
  points: Points,
  x_scale: Scale,
  y_scale: Scale,
  spread: Mapping[float, float],
) -> list[Mark]:
  marks = []
  for x, y in points:
    more = spread.get(x, 0.0)
    text = f'{name}: {y:.4g}{f" ± {more:.2g}" if more else ""} at {x:.6g}'
    bar = y_scale(y - more), y_scale(y + more)
    marks.append(Mark(x_scale(x), y_scale(y), text, *bar))
  return marks


def _is_log(values: Sequence[float]) -> bool:
  return min(values) > 0 and max(values) > RATIO * min(values)


def _scale(
  values: Sequence[float], start: float, end: float, log: bool
) -> Scale:
  low, high = min(values), max(values)
  if low == high:
    more = abs(low) / 2 or 1.0
    low, high = (low / 2, high * 2) if log else (low - more, high + more)
  return Scale(low, high, start, end, log)


def _nice(scale: Scale) -> list[float]:
  """1, 2 or 5 times powers of ten within a scale, at most about six."""
  if scale.log:
    low, high = (math.floor(math.log10(v)) for v in (scale.low, scale.high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
      values = [f * 10.0**e for e in range(low, high + 1) for f in factors]
      values = [v for v in values if scale.low <= v <= scale.high]
      if len(values) <= 6:
        break
    if len(values) > 1:
      return values
  step = (scale.high - scale.low) / 5
  unit = 10.0 ** math.floor(math.log10(step))
  unit *= next(f for f in (1, 2, 5, 10) if f * unit >= step)
  first = math.ceil(scale.low / unit)
  last = math.floor(scale.high / unit)
  return list(dict.fromkeys(k * unit for k in range(first, last + 1)))


def _ticks(values: Sequence[float], scale: Scale, apart: float) -> list[Tick]:
  """The numbers that do not touch the one before; no two are spelled alike."""
  kept: list[float] = []
  for value in values:
    if not kept or abs(scale(value) - scale(kept[-1])) >= apart:
      kept.append(value)
  for digits in (4, 8, 17):
    texts = [spelled(value, digits) for value in kept]
    if len(set(texts)) == len(texts):
      break
  return [Tick(scale(v), text) for v, text in zip(kept, texts, strict=True)]


def spelled(value: float, digits: int = 4) -> str:
  """'0.05', '1000', '20k', '1.5M', '1e-07'."""
  for least, unit, letter in (
    (1e9, 1e9, 'G'),
    (1e6, 1e6, 'M'),
    (1e4, 1e3, 'k'),
  ):
    if least <= abs(value) < 1e12:
      return f'{value / unit:.{digits}g}{letter}'
  return f'{value:.{digits}g}'


def drawable(value: float) -> bool:
  """Whether a chart can show a number: it is finite, and its range too."""
  return value == 0 or 1e-300 < abs(value) < 1e300
