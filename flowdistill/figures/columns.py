"""Rows of evaluators as one table whose columns can be compared.

What says how examples were drawn (DRAWN) tells rows apart. Everything else that
is no figure says how they were measured: figures for which it differs, such as
the number of samples or the reference, have columns of their own.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from flowdistill.evaluators.signature import Row
from flowdistill.figures.runs import Stage
from flowdistill.figures.table import column
from flowdistill.workdir.results import NAMED

DRAWN = {  # key: title
  'run': 'Run',
  'stage': 'Stage',
  'step': 'Step',
  'model': 'Model',
  'sampler': 'Sampler',
  'nfe': 'NFE',
  'adaptive': 'Adaptive',
  't': 't',
  'grid': 'Time grid',
  'guidance': 'Guidance',
  'gamma': 'γ',
  'options': 'Options',
  'ema': 'EMA',
  'weights': 'Weights',
}
MEASURED = ('count', 'seeds', 'sets', 'dimensions')  # numbers, but no figures
SPREADS = ('_spread', '_error', '_deviation')  # of a figure
NOT_FINITE = ('nan', 'inf', '-inf')  # how JSON has them
LONGEST = 160  # letters of a cell
MOST_COLUMNS = 60  # of figures
Key = tuple[str, str]
"""A figure, and how it was measured as JSON."""


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of figures.

  Attributes:
    name: the key in the rows.
    title: of the figure.
    measured: how it was measured, as JSON texts.
    about: what of that tells it from other columns.
    style: format of a number.
  """

  name: str
  title: str
  measured: Mapping[str, str]
  about: str
  style: str


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell: its text, and the number that it is sorted by, '' for a text."""

  text: str = ''
  key: str = ''
  is_number: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """The columns that say how examples were drawn, figures, rows, and notes.

  Attributes:
    drawn: titles of the first columns.
    columns: of figures.
    lines: a list of cells for each row.
    common: 'samples = 3594': what is the same in all rows.
  """

  drawn: Sequence[str]
  columns: Sequence[Column]
  lines: Sequence[Sequence[Cell]]
  common: Sequence[str]


def rows_of(stages: Sequence[Stage]) -> list[Row]:
  """The rows of stages, with the names of run and stage."""
  return [
    {'run': stage.run, 'stage': stage.name, **row}
    for stage in stages
    for row in stage.rows
  ]


def number(value: Any) -> float | None:
  """A number in a row, also 'nan' and 'inf'; None for anything else."""
  if isinstance(value, bool) or not isinstance(value, int | float | str):
    return None
  return (
    None if isinstance(value, str) and value not in NOT_FINITE else float(value)
  )


def figures(row: Row) -> dict[str, float]:
  """The figures of a row."""
  about = {*DRAWN, *NAMED, *MEASURED}
  numbers = {k: number(v) for k, v in row.items() if k not in about}
  return {key: value for key, value in numbers.items() if value is not None}


def measured(row: Row) -> dict[str, str]:
  """How the figures of a row were measured: key -> JSON text."""
  found = figures(row)
  return {
    key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    for key, value in row.items()
    if key not in DRAWN and key not in found
  }


def columns_of(rows: Sequence[Row]) -> dict[Key, Column]:
  """The columns of figures of rows, in their order."""
  found: dict[Key, Column] = {}
  for row in rows:
    how = measured(row)
    for name in figures(row):
      title, style = column(name)
      title = title[:1].upper() + title[1:]
      found.setdefault(key_of(name, how), Column(name, title, how, '', style))
  every = list(found.values())
  return {
    key: dataclasses.replace(each, about=_apart(each, every))
    for key, each in found.items()
  }


def key_of(name: str, how: Mapping[str, str]) -> Key:
  """What two figures share if they may share a column."""
  return name, json.dumps(how, sort_keys=True)


def tabulate(stages: Sequence[Stage], cells: int, notes: list[str]) -> Table:
  """The table of the rows of stages.

  Args:
    stages: of one section of a page.
    cells: of figures, at most: the newest rows are shown.
    notes: gets a sentence about what is left out.
  """
  every = rows_of(stages)
  found = columns_of(every)
  apart = (k for k in found if not spread_of(k, found))
  columns = {k: found[k] for k in itertools.islice(apart, MOST_COLUMNS)}
  rows = _newest(every, cells // max(1, len(columns)))
  if len(rows) < len(every):
    notes.append(f'The newest {len(rows)} of {len(every)} rows are shown.')
  if len(columns) == MOST_COLUMNS:
    notes.append(f'The first {MOST_COLUMNS} columns of figures are shown.')
  shown = [key for key in DRAWN if _differs(key, rows)]
  common = [
    f'{DRAWN[key]} = {cell(rows[0][key]).text}'
    for key in [*DRAWN][2:]  # run and stage are in the heading
    if rows and key not in shown and rows[0].get(key) not in ('', None)
  ]
  common += _common([each.measured for each in columns.values()])
  return Table(
    [DRAWN[key] for key in shown],
    list(columns.values()),
    [_line(row, shown, columns) for row in rows],
    common,
  )


def _newest(rows: Sequence[Row], most: int) -> list[Row]:
  """So many rows of the last steps, in their order."""
  order = sorted(range(len(rows)), key=lambda k: rows[k].get('step', 0))
  return [rows[k] for k in sorted(order[max(0, len(rows) - most) :])]


def _line(
  row: Row, shown: Sequence[str], columns: Mapping[Key, Column]
) -> list[Cell]:
  how, found = measured(row), figures(row)
  values = {key_of(name, how): value for name, value in found.items()}
  return [
    *(cell(row.get(key)) for key in shown),
    *(_figure(key, values, each.style) for key, each in columns.items()),
  ]


def spread_of(key: Key, columns: Mapping[Key, Column]) -> bool:
  """Whether a figure is the error of another, as kid_error is of kid."""
  names = [key[0].removesuffix(end) for end in SPREADS]
  return any(name != key[0] and (name, key[1]) in columns for name in names)


def _figure(key: Key, values: Mapping[Key, float], style: str) -> Cell:
  """A figure, with its spread if there is one."""
  shown = cell(values.get(key), style)
  spreads = [values.get((key[0] + end, key[1])) for end in SPREADS]
  more = next((each for each in spreads if each is not None), None)
  if not shown.text or more is None:
    return shown
  return dataclasses.replace(shown, text=f'{shown.text} ± {more:.2g}')


def _differs(key: str, rows: Sequence[Row]) -> bool:
  """Whether a column is worth its width; that of a single row tells all."""
  values = {json.dumps(row.get(key), default=str) for row in rows}
  return len(values) > 1 or (key in ('model', 'sampler') and values != {'null'})


def _common(all_measured: Sequence[Mapping[str, str]]) -> list[str]:
  first = all_measured[0] if all_measured else {}
  return [
    cut(f'{key} = {value}')
    for key, value in first.items()
    if all(each.get(key) == value for each in all_measured)
  ]


def _apart(one: Column, columns: Sequence[Column]) -> str:
  """'samples = 500': what differs from columns of the same figure."""
  same = [each.measured for each in columns if each.name == one.name]
  keys = dict.fromkeys(key for each in same for key in each)
  text = ', '.join(
    f'{key} = {one.measured.get(key, "–")}'
    for key in keys
    if len({each.get(key) for each in same}) > 1
  )
  return cut(text)


def cell(value: Any, style: str = '') -> Cell:
  """A cell of a table; integers are whole without a style; texts are cut."""
  if value is None or value == '':
    return Cell()
  if (known := number(value)) is not None:
    key = repr(known).replace('inf', 'Infinity')  # as a script reads it
    style = style or ('.0f' if known.is_integer() else '.6g')
    return Cell(format(known, style), key, True)
  text = value if isinstance(value, str) else json.dumps(value)
  return Cell(cut(text))


def cut(text: str) -> str:
  """A text of at most 160 letters, with … for what is left out."""
  return text if len(text) <= LONGEST else f'{text[: LONGEST - 1]}…'
