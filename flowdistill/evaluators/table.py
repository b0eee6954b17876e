"""Rows of evaluators as a table for the screen."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

COLUMNS = {  # key: (title, format)
  'model': ('model', ''),
  'sampler': ('sampler', ''),
  'nfe': ('NFE', 'd'),
  'energy_distance': ('energy\ndistance', '.4f'),
  'accuracy': ('accuracy', '.1%'),
  'memorised': ('memorised', '.1%'),
  'ms_per_image': ('ms per\nimage', '.3f'),
}
FRECHET = 'frechet_'


def table(rows: Iterable[Mapping[str, Any]]) -> Table:
  """One line per row, with the columns that the rows have; 79 letters wide.

  A line is drawn between models. A figure that a row lacks is left blank.
  """
  rows = list(rows)
  keys = dict.fromkeys(key for row in rows for key in row)
  columns = {key: _column(key) for key in keys if _column(key)[0]}
  made = Table(header_style='bold', border_style='dim')
  for title, style in columns.values():
    made.add_column(title, justify='right' if style else 'left', no_wrap=True)
  for row, following in zip(rows, [*rows[1:], {}], strict=False):
    cells = [_spell(row.get(key), style) for key, (_, style) in columns.items()]
    last = row.get('model') != following.get('model')
    made.add_row(*cells, end_section=last)
  return made


def _column(key: str) -> tuple[str, str]:
  """(title, format); no title for what is not shown."""
  if key.startswith(FRECHET):
    return f'Fréchet distance\n({key.removeprefix(FRECHET)})', '.2f'
  return COLUMNS.get(key, ('', ''))


def _spell(value: Any, style: str) -> str:
  return '' if value is None else format(value, style)
