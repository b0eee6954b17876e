"""Rows of evaluators as tables for the screen."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from flowdistill.workdir.results import NAMED

DRAWN = {  # how examples were drawn, key: title
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
COLUMNS = {  # key: (title, format)
  'model': ('model', ''),
  'sampler': ('sampler', ''),
  'nfe': ('NFE', '.4g'),
  't': ('t', 'g'),
  'energy_distance': ('energy\ndistance', '.4f'),
  'accuracy': ('accuracy', '.1%'),
  'memorised': ('memorised', '.1%'),
  'geneval': ('GenEval', '.3f'),
  'geneval_single_object': ('single', '.3f'),
  'geneval_two_object': ('two', '.3f'),
  'geneval_counting': ('count', '.3f'),
  'geneval_colors': ('colour', '.3f'),
  'geneval_position': ('posi-\ntion', '.3f'),
  'geneval_color_attr': ('bind-\ning', '.3f'),
  'ms_per_image': ('ms per\nimage', '.3f'),
  'semigroup_error': ('semigroup\nerror', '.4f'),
  'boundary_error': ('boundary\nerror', '.4f'),
  'teacher_distance': ("distance from\nteacher's ODE", '.4f'),
  'straightness': ('straightness\n(0 is straight)', '.4f'),
  'flow_loss': ('flow loss', '.4f'),
}
FIGURES = {  # first part of a key, of which the rest is a network: the same
  'frechet': ('Fréchet\ndistance', '.2f'),
  'precision': ('preci-\nsion', '.3f'),
  'recall': ('recall', '.3f'),
  'density': ('density', '.3f'),
  'coverage': ('cover-\nage', '.3f'),
  'kernel': ('kernel\ndistance', '.3g'),
  'inception_score': ('Inception\nscore', '.2f'),
  'fid': ('FID', '.2f'),
  'sfid': ('sFID', '.2f'),
  'kid': ('KID', '.3g'),
}
SPREAD = '_spread'  # of the figure of that name, shown below it
BIAS = '_bias'  # of the figure of that name: what the number of samples adds
TRAINED_ON, MARK = 'trained_on', '†'  # losses that asked the feature network
NOTE = f'{MARK} its feature network was in a training loss of the run'
ERRORS = {  # figures that are shown below another one, if it has no spread
  'kernel': 'kernel_error',
  'kid': 'kid_error',
  'inception_score': 'inception_score_deviation',
}
SETTINGS = ('model', 'sampler', 'nfe', 't')  # columns that are no figures
Row = Mapping[str, Any]


def table(rows: Iterable[Row]) -> Group:
  """One line per row, with the columns that the rows have; 79 characters wide.

  Models are separated by a rule. A figure that a row lacks is left blank; rows
  without any figure in common with those above, or that were measured in
  another way, are in a table of their own. Options are below the sampler. A
  figure is marked if its feature network was in a training loss.
  """
  every = list(rows)
  notes = [NOTE] if any(row.get(TRAINED_ON) for row in every) else []
  groups = _groups(every)
  return Group(*(_table(each, _apart(each, groups)) for each in groups), *notes)


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
  """Rows with a figure in common that was measured alike, or without any."""
  groups: list[list[Row]] = []
  for row in rows:
    own = _figures([row])
    fits = (
      group
      for group in groups[::-1]
      if own & _figures(group) and _measured(row) in map(_measured, group)
    )
    group = next(fits, None)
    if group is None and groups and not (own and _figures(groups[-1])):
      group = groups[-1]
    if group is None:
      groups.append(group := [])
    group.append(row)
  return groups


def _measured(row: Row) -> dict[str, Any]:
  """How a row was measured."""
  return {
    key: value
    for key, value in row.items()
    if (key in NAMED or isinstance(value, str)) and key not in DRAWN
  }


def _apart(group: Sequence[Row], groups: Iterable[Sequence[Row]]) -> str:
  """'samples = 50': what differs from other tables of the same figures."""
  how = _measured(group[0])
  figures = _figures(group)
  others = [_measured(each[0]) for each in groups if figures & _figures(each)]
  return ', '.join(
    f'{key} = {how.get(key, "–")}'
    for key in dict.fromkeys(key for other in others for key in other)
    if any(other.get(key) != how.get(key) for other in others)
  )


def _figures(rows: Sequence[Row]) -> set[str]:
  return {k for row in rows for k in row if _column(k)[0] and k not in SETTINGS}


def _table(rows: Sequence[Row], about: str) -> Table:
  rows = [_with_options(row) for row in rows]
  keys = dict.fromkeys(key for row in rows for key in row)
  columns = {key: _column(key) for key in keys if _column(key)[0]}
  grid = Table(
    header_style='bold',
    border_style='dim',
    caption=Text(about) if about else None,
  )
  for key, (title, style) in columns.items():
    grid.add_column(
      title,
      justify='right' if style else 'left',
      no_wrap=key != 'sampler',
      overflow='fold',
    )
  for row, following in zip(rows, [*rows[1:], {}], strict=False):
    cells = [_format(row, key, style) for key, (_, style) in columns.items()]
    last = row.get('model') != following.get('model')
    grid.add_row(*cells, end_section=last)
  return grid


def _with_options(row: Row) -> Row:
  key = 'sampler' if 'sampler' in row else 'model'
  below = [row['options']] if 'options' in row else []
  below += [f'weights: {row["weights"]}'] if 'weights' in row else []
  return {**row, key: '\n'.join([row[key], *below])} if below else row


def column(key: str) -> tuple[str, str]:
  """(title, format) of a figure or of a setting, on one line."""
  title, style = _column(key)
  title = title.replace('-\n', '').replace('\n', ' ')
  return title or key.replace('_', ' '), style or '.4g'


def _column(key: str) -> tuple[str, str]:
  """(title, format); the title is empty for what is not shown."""
  beside = key.endswith((SPREAD, BIAS)) or key.startswith(
    tuple(ERRORS.values())
  )
  if key in COLUMNS or beside:
    return COLUMNS.get(key, ('', ''))
  for name, (title, style) in FIGURES.items():
    network = key.removeprefix(name)
    if network == '':
      return title, style
    if network != key and network[0] == '_':
      return f'{title}\n({network[1:]})', style
  return '', ''


def _format(row: Row, key: str, style: str) -> str:
  """'1.234', and below it its spread or its error: '± 0.005'."""
  if row.get(key) is None:
    return ''
  apart = row.get(f'{key}{SPREAD}', row.get(_error_of(key)))
  text = format(row[key], style)
  if row.get(TRAINED_ON) and key not in SETTINGS:
    text += MARK
  return text if apart is None else f'{text}\n± {format(apart, style)}'


def _error_of(key: str) -> str:
  name = next((name for name in ERRORS if key.startswith(name)), None)
  return '' if name is None else f'{ERRORS[name]}{key.removeprefix(name)}'
