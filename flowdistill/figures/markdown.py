"""A comparison of methods as a table in Markdown."""

import dataclasses
import html
import json
import re
from collections.abc import Iterable, Sequence

from flowdistill.figures.cells import cut
from flowdistill.figures.columns import MARK, TRAINED_ON, mark_note
from flowdistill.figures.comparison import three_digits
from flowdistill.figures.methods import Method, Point

MARKUP = re.compile(r'[\\|`*\[]|(?<!\w)_|_(?!\w)')  # letters that would be it
COUNTS = ('forward_passes', 'parameters', 'macs')  # columns if known


def markdown(methods: Sequence[Method], metric: str) -> str:
  """A heading and a table: a line per method, a column per NFE, and its best.

  The columns are the NFE of the students, except those that an adaptive sampler
  chose. The lowest figure of a column is bold. With several seeds a figure is
  their median, with the range in brackets. What is marked, and in what else
  figures were measured differently, stands below.
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
  notes = [mark_note(p.trained_on for m in methods for p in m.points)]
  parts = [f'# {metric} over NFE', piped(lines), *notes, _apart(methods)]
  return '\n\n'.join(filter(None, parts)) + '\n'


def piped(lines: Iterable[Sequence[str]]) -> str:
  """A table of cells whose text is escaped."""
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def escaped(text: str) -> str:
  """Text that stands in a cell as it is: in one line, without any markup."""
  text = html.escape(' '.join(text.split()), quote=False)
  return MARKUP.sub(lambda found: f'\\{found[0]}', text)


def code(text: str) -> str:
  """Text that stands in one line as it is, between as many ` as it takes."""
  text = ' '.join(text.split()) or ' '
  longest = max(map(len, re.findall('`+', text)), default=0)
  fence = '`' * (longest + 1)
  return f'{fence} {text} {fence}' if longest else f'{fence}{text}{fence}'


def _apart(methods: Sequence[Method]) -> str:
  """What differs in how the figures of the table were measured; '' if none."""
  found: dict[str, dict[str, dict[str, None]]] = {}
  points = [(m.name, p.measured) for m in methods for p in m.points]
  for key in dict.fromkeys(key for _, how in points for key in how):
    for name, how in points:
      text = json.dumps(how[key]) if key in how else '–'
      found.setdefault(key, {}).setdefault(text, {})[name] = None
  lines = []
  for key, by in found.items():
    values = (f'{text} ({", ".join(names)})' for text, names in by.items())
    if len(by) > 1 and key != TRAINED_ON:
      lines.append(cut(f'{key} = {" and ".join(values)}'))
  if not lines:
    return ''
  return f'Not all figures were measured alike: {escaped("; ".join(lines))}.'


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
  value = three_digits(point.value) + (MARK if point.trained_on else '')
  value = f'**{value}**' if bold else value
  if point.low == point.high:
    return value
  return f'{value} ({three_digits(point.low)}–{three_digits(point.high)})'


def _count(number: float | None) -> str:
  return '' if number is None else f'{number:,.0f}'
