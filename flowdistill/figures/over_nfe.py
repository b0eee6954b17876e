"""Charts of figures over the number of network evaluations."""

import dataclasses
from collections.abc import Iterable, Sequence

from flowdistill.evaluators.signature import Row
from flowdistill.figures.axes import drawable
from flowdistill.figures.cells import cell, number
from flowdistill.figures.charts import Chart, Series, draw
from flowdistill.figures.columns import (
  DRAWN,
  MARK,
  SPREADS,
  TRAINED_ON,
  Column,
  Key,
  beside,
  columns_of,
  figures,
  found_beside,
  key_of,
  measured,
)
from flowdistill.figures.lines import rows_of
from flowdistill.figures.runs import Stage

FIRST = (  # beginnings of the figures that are drawn first
  *('fid', 'frechet', 'fd_', 'sfid', 'kid', 'energy'),
  *('precision', 'recall', 'density', 'coverage'),
)
BOUNDED = ('precision', 'recall', 'coverage')  # by 0 and 1
TOGETHER = ('precision', 'recall')  # are in one chart, the second one dashed
BESIDE = ('ms_per_image', 'nfe')  # figures without a chart
ALWAYS = ('model', 'sampler')  # in the name of a line
MOST = 12  # charts


@dataclasses.dataclass(frozen=True)
class Plot:
  """The lines of one chart, and what it says of them."""

  name: str
  how: str
  title: str
  about: str
  lines: Sequence[Series]


def over_nfe(stages: Sequence[Stage]) -> list[Chart]:
  """A chart for each figure that is known at several NFE.

  Figures of Fréchet distances come first, then precision and recall in one
  chart. Of each stage the last checkpoint is drawn. Lines of figures whose
  feature network was in a training loss are marked.
  """
  rows = [r for r in last_rows(rows_of(stages)) if _has_nfe(r)]
  columns = columns_of([_unmarked(row) for row in rows])
  styles: dict[str, int] = {}
  plots = []
  for key, column in columns.items():
    if column.name in BESIDE or beside(key, columns):
      continue
    lines = _lines(rows, key, styles)
    if len({x for line in lines for x, _ in line.points}) > 1:
      about = _about(column, lines)
      plots.append(Plot(*key, column.title, about, lines))
  plots = _together(plots)
  order = [plot.name for plot in plots]
  plots.sort(key=lambda each: (_order(each.name), order.index(each.name)))
  return [_chart(plot) for plot in plots[:MOST]]


def last_rows(rows: Sequence[Row]) -> list[Row]:
  """The rows of the last checkpoint of each stage."""
  last: dict[tuple[str, str], int] = {}
  for row in rows:
    where = row['run'], row['stage']
    last[where] = max(row.get('step', 0), last.get(where, 0))
  return [r for r in rows if r.get('step', 0) == last[r['run'], r['stage']]]


def _has_nfe(row: Row) -> bool:
  nfe = number(row.get('nfe'))
  return nfe is not None and nfe > 0 and drawable(nfe)


def _unmarked(row: Row) -> Row:
  """A marked line is in the chart of the others."""
  return {key: value for key, value in row.items() if key != TRAINED_ON}


def _chart(plot: Plot) -> Chart:
  return draw(
    plot.title,
    plot.lines,
    about=plot.about,
    x_title='NFE (network evaluations per image)',
    log_x=True,
    log_y=not plot.name.startswith(BOUNDED),
  )


def _about(column: Column, lines: Iterable[Series]) -> str:
  marked = any(line.name.endswith(MARK) for line in lines)
  note = f'{MARK} its feature network was in a training loss' if marked else ''
  return '. '.join(filter(None, [column.about, note]))


def _together(plots: Sequence[Plot]) -> list[Plot]:
  """Plots, with precision and recall that were measured alike in one."""
  known = {(plot.name, plot.how): plot for plot in plots}
  first, second = TOGETHER
  joined: dict[tuple[str, str], Plot] = {}
  for plot in plots:
    network = plot.name.removeprefix(first).removeprefix(second)
    pair = [known.get((figure + network, plot.how)) for figure in TOGETHER]
    if plot in pair and pair[0] and pair[1]:
      joined[pair[0].name, plot.how] = _both(pair[0], pair[1])
    else:
      joined[plot.name, plot.how] = plot
  return list(joined.values())


def _both(one: Plot, other: Plot) -> Plot:
  first, second = TOGETHER
  title = one.title.replace(first.capitalize(), f'{first} and {second}', 1)
  about = [f'{first.capitalize()} is solid, {second} dashed', one.about]
  return dataclasses.replace(
    one,
    title=title[:1].upper() + title[1:],
    about='. '.join(filter(None, about)),
    lines=[
      *(dataclasses.replace(each, figure=first) for each in one.lines),
      *(
        dataclasses.replace(each, figure=second, dashed=True)
        for each in other.lines
      ),
    ],
  )


def _lines(
  rows: Sequence[Row], key: Key, styles: dict[str, int]
) -> list[Series]:
  """A line for each way of drawing, in the order of NFE.

  Of two figures at one NFE the later is kept. `styles` gets names without a
  mark: a line has the same style in all charts.
  """
  words = [
    k
    for k in DRAWN
    if k not in ('nfe', 'step', 'adaptive', *ALWAYS)
    and len({cell(row.get(k)).text for row in rows}) > 1
  ]
  found: dict[str, dict[float, float]] = {}
  spreads: dict[str, dict[float, float]] = {}
  for row in rows:
    known = figures(row)
    value = known.get(key[0])
    if value is None or not drawable(value):
      continue
    if key_of(key[0], measured(_unmarked(row))) == key:
      name = _name(row, words)
      styles.setdefault(name, len(styles))
      name += f' {MARK}' if row.get(TRAINED_ON) else ''
      nfe = float(row['nfe'])
      found.setdefault(name, {})[nfe] = value
      spread = known.get(found_beside(key[0], SPREADS, known), 0.0)
      spreads.setdefault(name, {})[nfe] = spread if drawable(spread) else 0.0
  return [
    Series(
      name,
      sorted(points.items()),
      styles[name.removesuffix(f' {MARK}')],
      spreads[name],
    )
    for name, points in found.items()
  ]


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
