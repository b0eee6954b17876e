"""Rows of evaluators as tables for the screen."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

COLUMNS = {  # key: (title, format)
  'model': ('model', ''),
  'sampler': ('sampler', ''),
  'nfe': ('NFE', '.4g'),
  't': ('t', 'g'),
  'energy_distance': ('energy\ndistance', '.4f'),
  'accuracy': ('accuracy', '.1%'),
  'memorised': ('memorised', '.1%'),
  'ms_per_image': ('ms per\nimage', '.3f'),
  'semigroup_error': ('semigroup\nerror', '.4f'),
  'boundary_error': ('boundary\nerror', '.4f'),
  'teacher_distance': ("distance from\nteacher's ODE", '.4f'),
  'straightness': ('straightness\n(0 is straight)', '.4f'),
  'flow_loss': ('flow loss', '.4f'),
}
SETTINGS = ('model', 'sampler', 'nfe', 't')  # columns that are no figures
FRECHET = 'frechet_'
Row = Mapping[str, Any]


def table(rows: Iterable[Row]) -> Group:
  """One line per row, with the columns that the rows have; 79 characters wide.

  Models are separated by a rule. A figure that a row lacks is left blank; rows
  without any figure in common with those above begin a new table. Options are
  below the sampler.
  """
  return Group(*map(_table, _groups(rows)))


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
  """Neighbouring rows with a figure in common, or without any."""
  groups: list[list[Row]] = []
  for row in rows:
    above, own = _figures(groups[-1] if groups else []), _figures([row])
    if not groups or (above and own and not above & own):
      groups.append([])
    groups[-1].append(row)
  return groups


def _figures(rows: Sequence[Row]) -> set[str]:
  return {k for row in rows for k in row if _column(k)[0] and k not in SETTINGS}


def _table(rows: Sequence[Row]) -> Table:
  rows = [_with_options(row) for row in rows]
  keys = dict.fromkeys(key for row in rows for key in row)
  columns = {key: _column(key) for key in keys if _column(key)[0]}
  grid = Table(header_style='bold', border_style='dim')
  for key, (title, style) in columns.items():
    grid.add_column(
      title,
      justify='right' if style else 'left',
      no_wrap=key != 'sampler',
      overflow='fold',
    )
  for row, following in zip(rows, [*rows[1:], {}], strict=False):
    cells = [
      _format(row.get(key), style) for key, (_, style) in columns.items()
    ]
    last = row.get('model') != following.get('model')
    grid.add_row(*cells, end_section=last)
  return grid


def _with_options(row: Row) -> Row:
  if 'options' not in row:
    return row
  key = 'sampler' if 'sampler' in row else 'model'
  return {**row, key: f'{row[key]}\n{row["options"]}'}


def column(key: str) -> tuple[str, str]:
  """(title, format) of a figure or of a setting, on one line."""
  title, style = _column(key)
  return (title or key.replace('_', ' ')).replace('\n', ' '), style or '.4g'


def _column(key: str) -> tuple[str, str]:
  """(title, format); the title is empty for what is not shown."""
  if key.startswith(FRECHET):
    return f'Fréchet\ndistance\n({key.removeprefix(FRECHET)})', '.2f'
  return COLUMNS.get(key, ('', ''))


def _format(value: Any, style: str) -> str:
  return '' if value is None else format(value, style)
