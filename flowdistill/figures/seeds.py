"""Rows of runs that differ in their seed alone: medians, and their ranges."""

import json
import math
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
  notes: list[str] = []
  for pair in of_configs(workdirs, notes):
    if len(pair.runs) < len(workdirs):
      why = ' '.join(notes)
      raise ConfigError(f'--seeds: {pair.title} must be in every run: {why}')
    keys = {key: values for key, values in pair.keys.items() if key != 'seed'}
    for key, values in keys.items():
      raise ConfigError(
        f'--seeds: the runs must differ in their seed alone; {pair.title} has '
        f'{key} = {" and ".join(cut(value) for value in values)}'
      )
    seeds = pair.keys.get('seed', ['the same'] * len(pair.runs))
    if not pair.trains:  # such as latents, which need no seed
      continue
    of = dict[str, str]()
    for run, seed in zip(pair.runs, seeds, strict=True):
      if seed in of:
        both = f'{of[seed]} and {run}'
        raise ConfigError(f'--seeds: {pair.title} has the same seed in {both}')
      of[seed] = run


def over_seeds(
  rows: Sequence[Row], runs: Sequence[str], notes: list[str]
) -> list[Row]:
  """A row for each measurement that all runs have made.

  Its figures are medians; NAME_least and NAME_most are the range of each. Of an
  adaptive sampler the NFE is a median too.

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
    number = '1 row is' if left == 1 else f'{left} rows are'
    notes.append(
      f'{number} not of every seed, or were measured or have ended in another '
      'way there, such as by another revision of the code.'
    )
  return [_median([*each.values()], runs) for each in whole]


def _same(row: Row) -> str:
  """Equal for rows of the same figures that differ in run and values alone."""
  numbers = figures(row)
  free = {'run', 'nfe'} if row.get('adaptive') else {'run'}
  about = {k: v for k, v in row.items() if k not in numbers.keys() | free}
  return json.dumps([about, sorted(numbers)], sort_keys=True)


def _median(rows: Sequence[Row], runs: Sequence[str]) -> Row:
  values = [figures(row) for row in rows]
  found: Row = {**rows[0], 'run': ', '.join(runs)}
  if found.get('adaptive'):
    found['nfe'] = statistics.median(row['nfe'] for row in rows)
  for name in values[0]:
    of = [each[name] for each in values]
    if any(math.isnan(value) for value in of):
      of = [math.nan]
    found |= {
      name: statistics.median(of),
      f'{name}{LEAST}': min(of),
      f'{name}{MOST}': max(of),
    }
  return found
