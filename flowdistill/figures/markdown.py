"""A comparison of methods as a table in Markdown."""

import dataclasses
from collections.abc import Sequence

from flowdistill.figures.comparison import Method, Point, three_digits

COUNTS = ('forward_passes', 'parameters', 'macs')  # columns if known


def markdown(methods: Sequence[Method], metric: str) -> str:
  """A heading and a table: a line per method, a column per NFE, and its best.

  The columns are the NFE of the students, except those that an adaptive sampler
  chose. The lowest figure of a column is bold. With several seeds a figure is
  their median, with the range in brackets.
  """
  students = [method for method in methods if not method.teacher] or methods
  nfes = sorted({p.nfe for m in students for p in m.points if not p.adaptive})
  columns = [_column([_at(m, nfe) for m in methods]) for nfe in nfes]
  titles = [f'NFE {nfe:.4g}' for nfe in nfes]
  titles += ['best', 'at NFE', 'seeds', 'steps']
  columns += [
    _column([_without_range(method.best()) for method in methods]),
    [f'{method.best().nfe:.4g}' for method in methods],
    [str(method.seeds) for method in methods],
    [_count(method.steps) for method in methods],
  ]
  for key in COUNTS:
    if any(getattr(method, key) is not None for method in methods):
      titles.append(key.replace('macs', 'MACs').replace('_', ' '))
      columns.append([_count(getattr(method, key)) for method in methods])
  names = [method.name for method in methods]
  lines = [
    ['method', *titles],
    ['---', *['---:'] * len(titles)],
    *zip(names, *columns, strict=True),
  ]
  table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  return f'# {metric} over NFE\n\n{table}\n'


def _at(method: Method, nfe: float) -> Point | None:
  points = (p for p in method.points if p.nfe == nfe and not p.adaptive)
  return next(points, None)


def _without_range(point: Point) -> Point:
  """The range is in the column of the NFE alone."""
  return dataclasses.replace(point, low=point.value, high=point.value)


def _column(points: Sequence[Point | None]) -> list[str]:
  lowest = min((point.value for point in points if point), default=None)
  return [
    '' if point is None else _cell(point, bold=point.value == lowest)
    for point in points
  ]


def _cell(point: Point, *, bold: bool) -> str:
  value = (
    f'**{three_digits(point.value)}**' if bold else three_digits(point.value)
  )
  if point.low == point.high:
    return value
  return f'{value} ({three_digits(point.low)}–{three_digits(point.high)})'


def _count(number: float | None) -> str:
  return '' if number is None else f'{number:,.0f}'
