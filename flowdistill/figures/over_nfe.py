"""Charts of figures over the number of network evaluations."""

from collections.abc import Sequence

from flowdistill.evaluators.signature import Row
from flowdistill.figures import charts
from flowdistill.figures.charts import Chart, Points
from flowdistill.figures.columns import (
  DRAWN,
  SPREADS,
  Column,
  Key,
  cell,
  columns_of,
  figures,
  key_of,
  measured,
  number,
  rows_of,
  spread_of,
)
from flowdistill.figures.runs import Stage

FIRST = (  # beginnings of the figures that are drawn first
  *('fid', 'frechet', 'fd_', 'sfid', 'kid', 'energy'),
  *('precision', 'recall', 'density', 'coverage'),
)
BESIDE = ('ms_per_image', 'nfe')  # figures without a chart
ALWAYS = ('model', 'sampler')  # in the name of a line
MOST = 12  # charts
Lines = dict[str, Points]


def over_nfe(stages: Sequence[Stage]) -> list[Chart]:
  """A chart for each figure that is known at several NFE.

  Figures of Fréchet distances, precision and recall come first. Of each stage
  the last checkpoint is drawn.
  """
  rows = [r for r in _last(rows_of(stages)) if _has_nfe(r)]
  found: list[tuple[Column, Lines]] = []
  columns = columns_of(rows)
  for key, column in columns.items():
    lines = _lines(rows, key, key[0])
    nfes = {x for points in lines.values() for x, _ in points}
    if (
      len(nfes) > 1
      and column.name not in BESIDE
      and not spread_of(key, columns)
    ):
      found.append((column, lines))
  order = [column.name for column, _ in found]
  found.sort(key=lambda each: (_order(each[0].name), order.index(each[0].name)))
  names = dict.fromkeys(name for _, lines in found for name in lines)
  styles = {name: k for k, name in enumerate(names)}
  return [
    _chart(column, lines, styles, _spreads(rows, column))
    for column, lines in found[:MOST]
  ]


def _has_nfe(row: Row) -> bool:
  nfe = number(row.get('nfe'))
  return nfe is not None and nfe > 0 and charts.drawable(nfe)


def _chart(
  column: Column,
  lines: Lines,
  styles: dict[str, int],
  spreads: dict[str, dict[float, float]],
) -> Chart:
  return charts.draw(
    column.title,
    lines,
    styles,
    about=column.about,
    x_title='NFE (network evaluations per image)',
    log_x=True,
    spreads=spreads,
  )


def _spreads(
  rows: Sequence[Row], column: Column
) -> dict[str, dict[float, float]]:
  """Name of a line -> NFE -> half the length of an error bar."""
  key = key_of(column.name, column.measured)
  spreads: dict[str, dict[float, float]] = {}
  for end in SPREADS[::-1]:  # the first one is kept
    for name, points in _lines(rows, key, column.name + end).items():
      spreads.setdefault(name, {}).update(points)
  return spreads


def _last(rows: Sequence[Row]) -> list[Row]:
  """The rows of the last checkpoint of each stage."""
  last: dict[tuple[str, str], int] = {}
  for row in rows:
    where = row['run'], row['stage']
    last[where] = max(row.get('step', 0), last.get(where, 0))
  return [r for r in rows if r.get('step', 0) == last[r['run'], r['stage']]]


def _lines(rows: Sequence[Row], key: Key, name: str) -> Lines:
  """Name -> (NFE, figure), in the order of NFE; the later of two is kept."""
  differing = [
    k
    for k in DRAWN
    if k not in ('nfe', 'step', 'adaptive', *ALWAYS)
    and len({cell(row.get(k)).text for row in rows}) > 1
  ]
  found: dict[str, dict[float, float]] = {}
  for row in rows:
    value = figures(row).get(name)
    if value is None or not charts.drawable(value):
      continue
    if key_of(key[0], measured(row)) == key:
      found.setdefault(_name(row, differing), {})[float(row['nfe'])] = value
  return {name: sorted(points.items()) for name, points in found.items()}


def _name(row: Row, differing: Sequence[str]) -> str:
  """'teacher, euler, guidance=1.5'."""
  words = {name: cell(row.get(name)).text for name in DRAWN}
  named = {'guidance', 'gamma', 'grid', 'ema', 'weights', 't'}
  return ', '.join(
    f'{DRAWN[name]} {word}' if name in named else word.replace('_', ' ')
    for name, word in words.items()
    if word and (name in ALWAYS or name in differing)
  )


def _order(name: str) -> int:
  begins = [k for k, first in enumerate(FIRST) if name.startswith(first)]
  return begins[0] if begins else len(FIRST)
