"""Figures of several runs in Markdown, and in what the runs differ."""

import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence

from flowdistill.evaluators.signature import Row
from flowdistill.figures.cells import cut
from flowdistill.figures.differences import Pair, of_configs, of_measurements
from flowdistill.figures.lines import rows_of
from flowdistill.figures.markdown import code, escaped, piped
from flowdistill.figures.over_nfe import last_rows
from flowdistill.figures.runs import Stage
from flowdistill.figures.seeds import over_seeds
from flowdistill.figures.tabulated import Table, tabulate

MOST_KEYS = 50  # of the configs of a stage


def side_by_side(
  workdirs: Mapping[str, pathlib.Path],
  stages: Sequence[Stage],
  metrics: Sequence[str] = (),
  *,
  last: bool = True,
  seeds: bool = False,
) -> str:
  """A heading, the table, and the differences of measurements and of configs.

  Args:
    workdirs: name of a run -> its folder.
    stages: of all runs.
    metrics: the figures that are shown; () shows all.
    last: whether only the last evaluated checkpoint of each stage is shown.
    seeds: whether medians over the runs, and their ranges, are shown.
  """
  notes = [f'{s.run}, {s.name}: {note}' for s in stages for note in s.notes]
  every = rows_of(stages)
  rows = last_rows(every) if last else every
  notes += _left_out(every, rows)
  for run in workdirs:
    if not any(row['run'] == run for row in every):
      notes.append(f'{run} has no results.')
  if seeds:
    rows = over_seeds(rows, [*workdirs], notes)
  table = tabulate(rows, sys.maxsize, notes, metrics)
  pairs = of_configs(workdirs, notes)
  parts = [
    f'# {escaped(" and ".join(workdirs))}',
    _table(table),
    *map(escaped, _below(table)),
    '## How the figures were measured',
    _measurements(table, rows) or 'All figures were measured alike.',
    '## In what the configs differ',
    *(part for pair in pairs for part in _configs(pair)),
    *(['## What is left out', _list(map(escaped, notes))] if notes else []),
  ]
  return '\n\n'.join(parts) + '\n'


def _left_out(every: Sequence[Row], rows: Sequence[Row]) -> list[str]:
  """Which rows of earlier checkpoints are not shown."""
  kept = {id(row) for row in rows}
  steps: dict[tuple[str, str], list[float]] = {}
  for row in every:
    if id(row) not in kept:
      steps.setdefault((row['run'], row['stage']), []).append(
        row.get('step', 0)
      )
  lines = []
  for (run, stage), found in steps.items():
    count = '1 row' if len(found) == 1 else f'{len(found)} rows'
    of = ', '.join(f'{step:g}' for step in sorted(set(found)))
    lines.append(
      f'{run}, {stage}: {count} of earlier checkpoints (step {cut(of)}); '
      '--steps=all shows them.'
    )
  return lines


def _table(table: Table) -> str:
  """The table; numbers are on the right."""
  if not table.lines:
    return 'No row of these checkpoints has such a figure.'
  columns = [
    f'{each.title}{f": {each.about}" if each.about else ""}'
    for each in table.columns
  ]
  heads = [escaped(title) for title in (*table.drawn, *columns)]
  right = [
    any(line[k].is_number for line in table.lines) for k in range(len(heads))
  ]
  cells = [[escaped(cell.text) for cell in line] for line in table.lines]
  return piped([heads, ['---:' if each else '---' for each in right], *cells])


def _below(table: Table) -> list[str]:
  common = '; '.join(table.common)
  return [*([f'In all rows: {common}.'] if common else []), *table.notes]


def _measurements(table: Table, rows: Sequence[Row]) -> str:
  """For each figure what is not the same for all, and in which runs."""
  found = of_measurements(table.columns, rows)
  titles = [column.title for column in table.columns]
  return _list(
    f'{escaped(title)}{_columns(titles.count(title))}: '
    + '; '.join(f'{code(key)} = {_values(each)}' for key, each in how.items())
    for title, how in found.items()
  )


def _columns(count: int) -> str:
  return f' is in {count} columns' if count > 1 else ''


def _values(runs: Mapping[str, Sequence[str]]) -> str:
  """'`600` (a and b), `50` (c)'; the runs are known if there is one value."""
  if len(runs) == 1:
    return code(cut(next(iter(runs))))
  return ', '.join(
    f'{code(cut(value))} ({escaped(" and ".join(names))})'
    for value, names in runs.items()
  )


def _configs(pair: Pair) -> list[str]:
  """A heading, and `KEY: run A = 1, run B = 2` for each key that differs."""
  lines = [
    f'{code(key)}: '
    + ', '.join(
      f'{escaped(run)} = {code(cut(value))}'
      for run, value in zip(pair.runs, values, strict=True)
    )
    for key, values in pair.keys.items()
  ]
  if len(pair.runs) < 2:
    lines = ['fewer than two configs can be read']
  if (more := len(lines) - MOST_KEYS) > 0:
    lines[MOST_KEYS:] = [f'{more} more keys differ']
  title = f'### {escaped(pair.title)}'
  return [title, _list(lines) if lines else 'No key differs.']


def _list(lines: Iterable[str]) -> str:
  return '\n'.join(f'- {line}' for line in lines)
