"""Lines of figures as one table, with what its columns and marks mean."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence

from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.evaluators.signature import Row
from flowdistill.figures.cells import Cell, cell, cut
from flowdistill.figures.columns import (
  BIAS,
  DRAWN,
  LEAST,
  MARK,
  MOST,
  SPREADS,
  Column,
  Key,
  beside,
  columns_of,
  mark_note,
  said,
)
from flowdistill.figures.lines import Line, lines_of

MOST_COLUMNS = 60  # of figures


@dataclasses.dataclass(frozen=True)
class Table:
  """The columns that say how examples were drawn, figures, lines, and notes.

  Attributes:
    drawn: titles of the first columns.
    columns: of figures.
    lines: a list of cells for each line.
    common: 'samples = 3594': what is the same in all lines.
    notes: what the marks mean, and how large biases are.
  """

  drawn: Sequence[str]
  columns: Sequence[Column]
  lines: Sequence[Sequence[Cell]]
  common: Sequence[str]
  notes: Sequence[str]


def tabulate(
  rows: Sequence[Row], cells: int, notes: list[str], metrics: Sequence[str] = ()
) -> Table:
  """The table of rows.

  Args:
    rows: see `rows_of`.
    cells: of figures, at most: the newest lines are shown.
    notes: gets a sentence about what is left out.
    metrics: the figures that are shown; () shows all.
  """
  found = columns_of(rows)
  names = list(dict.fromkeys(name for name, _ in found))
  shown = sorted(
    (
      key
      for key in found
      if not beside(key, found) and (not metrics or key[0] in metrics)
    ),
    key=lambda key: names.index(key[0]),
  )
  columns = {k: found[k] for k in itertools.islice(shown, MOST_COLUMNS)}
  every = [
    line
    for line in lines_of(rows)
    if not metrics or line.values.keys() & columns.keys()
  ]
  lines = _newest(every, cells // max(1, len(columns)))
  if len(lines) < len(every):
    notes.append(f'The newest {len(lines)} of {len(every)} rows are shown.')
  if len(columns) == MOST_COLUMNS:
    notes.append(f'The first {MOST_COLUMNS} columns of figures are shown.')
  drawn = [line.drawn for line in lines]
  heads = [key for key in DRAWN if _differs(key, drawn)]
  return Table(
    [DRAWN[key] for key in heads],
    list(columns.values()),
    [
      [
        *(cell(line.drawn.get(key)) for key in heads),
        *(_figure(key, line, each) for key, each in columns.items()),
      ]
      for line in lines
    ],
    [*_same_for_all(drawn, heads), *_common(list(columns.values()))],
    _notes(lines, columns),
  )


def _newest(lines: Sequence[Line], most: int) -> list[Line]:
  """So many lines of the last steps, in their order."""
  order = sorted(range(len(lines)), key=lambda k: lines[k].drawn.get('step', 0))
  return [lines[k] for k in sorted(order[max(0, len(lines) - most) :])]


def _figure(key: Key, line: Line, column: Column) -> Cell:
  """A figure with its spread or range, its mark, and its bias beside it."""
  shown = cell(line.values.get(key), column.style)
  if not shown.text:
    return shown
  spread, bias = line.beside(key, SPREADS), line.beside(key, [BIAS])
  least, most = (
    cell(line.beside(key, [end]), column.style).text for end in (LEAST, MOST)
  )
  text = shown.text if spread is None else f'{shown.text} ± {spread:.2g}'
  text = f'{shown.text} ({least}–{most})' if least else text
  about = []
  if column.trained_on:
    text += MARK
    about += [f'in a training loss of the run: {column.trained_on}']
  if bias is not None:
    about += [f'{bias:.2g} of it is due to the number of samples']
  return dataclasses.replace(shown, text=text, about='; '.join(about))


def _differs(key: str, rows: Sequence[Row]) -> bool:
  """Whether a column is worth its width; that of a single row tells all."""
  values = {json.dumps(row.get(key), default=str) for row in rows}
  return len(values) > 1 or (key in ('model', 'sampler') and values != {'null'})


def _same_for_all(rows: Sequence[Row], heads: Sequence[str]) -> list[str]:
  """'Step = 2': how all were drawn; run and stage if runs have names."""
  keys = [*DRAWN] if rows and rows[0].get('run') else [*DRAWN][2:]
  return [
    f'{DRAWN[key]} = {cell(rows[0][key]).text}'
    for key in keys
    if rows
    and key not in heads
    and rows[0].get(key) not in ('', None)
    and (key, rows[0][key]) != ('stage', ONE_STAGE)
  ]


def _common(columns: Sequence[Column]) -> list[str]:
  """'samples = 600': how all figures were measured."""
  first = columns[0].measured if columns else {}
  return [
    cut(f'{key} = {said(key, first)}')
    for key, value in first.items()
    if all(each.measured.get(key) == value for each in columns)
  ]


def _notes(lines: Sequence[Line], columns: Mapping[Key, Column]) -> list[str]:
  """What the mark means, and how large biases are."""
  notes = [mark_note(column.trained_on for column in columns.values())]
  for key, column in columns.items():
    found = (line.beside(key, [BIAS]) for line in lines)
    biases = [value for value in found if value is not None]
    if biases:
      low, high = (f'{value:.2g}' for value in (min(biases), max(biases)))
      about = f' ({column.about})' if column.about else ''
      notes.append(
        f'{low if low == high else f"{low} to {high}"} of {column.title}{about}'
        ' is due to the number of samples (bias).'
      )
  return [note for note in notes if note]
