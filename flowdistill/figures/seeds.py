"""Rows of runs that differ in their seed alone: medians, and their ranges."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from flowdistill.config.bind import ConfigError
from flowdistill.evaluators.signature import Row
from flowdistill.figures.cells import cut
from flowdistill.figures.columns import LEAST, MOST, figures
from flowdistill.figures.differences import of_configs


def check_seeds_alone(workdirs: Mapping[str, pathlib.Path]) -> None:
  """Raises ConfigError if the configs of runs differ in more than the seed."""
  for pair in of_configs(workdirs, []):
    keys = {key: values for key, values in pair.keys.items() if key != 'seed'}
    for key, values in keys.items():
      raise ConfigError(
        f'--seeds: the runs must differ in their seed alone; {pair.title} has '
        f'{key} = {" and ".join(cut(value) for value in values)}'
      )
    seeds = pair.keys.get('seed', ['the same'] * len(pair.runs))
    of = dict[str, str]()
    for run, seed in zip(pair.runs, seeds, strict=True):
      if seed in of:
        both = f'{of[seed]} and {run}'
        raise ConfigError(f'--seeds: {pair.title} has the same seed in {both}')
      of[seed] = run


def over_seeds(
  rows: Sequence[Row], runs: Sequence[str], notes: list[str]
) -> list[Row]:
  """A row for each way of sampling that all runs have measured.

  Its figures are medians; NAME_least and NAME_most are the range of each.

  Args:
    rows: of all runs.
    runs: their names.
    notes: gets a sentence about rows that only some of the runs have.
  """
  groups: dict[str, dict[str, Row]] = {}
  for row in rows:
    groups.setdefault(_same(row), {})[row['run']] = row
  whole = [each for each in groups.values() if len(each) == len(runs)]
  if left := len(groups) - len(whole):
    number = '1 row that is' if left == 1 else f'{left} rows that are'
    notes.append(f'{number} not of every seed.')
  return [_median([*each.values()], runs) for each in whole]


def _same(row: Row) -> str:
  """Equal for rows that differ in the run, and in their figures, alone."""
  numbers = figures(row)
  return json.dumps(
    {k: v for k, v in row.items() if k not in numbers and k != 'run'},
    sort_keys=True,
  )


def _median(rows: Sequence[Row], runs: Sequence[str]) -> Row:
  values = [figures(row) for row in rows]
  found: Row = {**rows[0], 'run': ', '.join(runs)}
  for name in values[0]:
    of = [each[name] for each in values if name in each]
    found |= {
      name: statistics.median(of),
      f'{name}{LEAST}': min(of),
      f'{name}{MOST}': max(of),
    }
  return found
