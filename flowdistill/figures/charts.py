"""Line charts as geometry, which a template draws as SVG.

Coordinates are pixels of a view box of WIDTH × HEIGHT, y downwards.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from flowdistill.figures.axes import Scale, Tick, nice, scale_of, ticks

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 40  # margins
COLOURS = 8  # of the style sheet
RATIO = (
  4  # of the largest to the least value, above which an axis is logarithmic
)
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Series:
  """What becomes a line.

  Attributes:
    name: in the legend, where two of one name have one entry.
    points: (x, y), at least one, of finite numbers, in the order of x.
    style: its number for the style sheet.
    spread: x -> half the length of an error bar.
    dashed: whether the line is.
    figure: what y is, if lines of several figures are in one chart.
  """

  name: str
  points: Points
  style: int
  spread: Mapping[float, float] = dataclasses.field(default_factory=dict)
  dashed: bool = False
  figure: str = ''


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
  dashed: bool


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

  @property
  def legend(self) -> list[Line]:
    """The first line of each name."""
    first: dict[str, Line] = {}
    for line in self.lines:
      first.setdefault(line.name, line)
    return list(first.values())


def draw(
  title: str,
  series: Sequence[Series],
  *,
  about: str = '',
  x_title: str,
  marked: bool = True,
  log_x: bool = False,
  log_y: bool = True,
) -> Chart:
  """A chart of at least one series.

  Args:
    title: of the chart.
    series: one for each line.
    about: is written below the title.
    x_title: the name of the x-axis.
    marked: whether points have marks, and numbers under the axis are theirs.
    log_x: whether the x-axis is logarithmic, if all x are positive.
    log_y: whether the y-axis is, if all y are positive and far apart.
  """
  xs = [x for each in series for x, _ in each.points]
  ys = [
    y + sign * each.spread.get(x, 0.0)
    for each in series
    for x, y in each.points
    for sign in (-1, 1)
  ]
  x_scale = scale_of(xs, LEFT + 8, WIDTH - RIGHT - 8, log_x and min(xs) > 0)
  y_log = log_y and min(ys) > 0 and max(ys) > RATIO * min(ys)
  y_scale = scale_of(ys, HEIGHT - BOTTOM - 8, TOP + 8, y_log)
  values = sorted(set(xs)) if marked else nice(x_scale)
  return Chart(
    title,
    about,
    x_title,
    ticks(values, x_scale),
    ticks(nice(y_scale), y_scale),
    [_line(each, x_scale, y_scale, marked) for each in series],
  )


def _line(series: Series, x_scale: Scale, y_scale: Scale, marked: bool) -> Line:
  places = (f'{x_scale(x):g} {y_scale(y):g}' for x, y in series.points)
  return Line(
    series.name,
    series.style % COLOURS,
    f'M{"L".join(places)}',
    _marks(series, x_scale, y_scale) if marked else (),
    series.dashed,
  )


def _marks(series: Series, x_scale: Scale, y_scale: Scale) -> list[Mark]:
  marks = []
  name = ', '.join(filter(None, [series.name, series.figure]))
  for x, y in series.points:
    more = series.spread.get(x, 0.0)
    text = f'{name}: {y:.4g}{f" ± {more:.2g}" if more else ""} at {x:.6g}'
    bar = y_scale(y - more), y_scale(y + more)
    marks.append(Mark(x_scale(x), y_scale(y), text, *bar))
  return marks
