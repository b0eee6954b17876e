"""The best way of sampling for each NFE, among those that were measured."""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Sampling
from flowdistill.evaluators.signature import Row
from flowdistill.evaluators.sweep import format_options
from flowdistill.figures.methods import choose_metric
from flowdistill.stages.job_options import tried
from flowdistill.workdir.presets import Preset, write_presets
from flowdistill.workdir.results import say

HELD_OUT = 2**31 - 1  # seed of the noise, which no evaluation has by default


def write_best(
  blueprint: Blueprint, options: Any, rows: Sequence[Row]
) -> list[Preset]:
  """Writes the presets of a stage, and returns them.

  Args:
    blueprint: of the stage.
    options: of the job, with `tune` and `model`.
    rows: of `quality`, in the order of the ways. A way without the figure is
      left out: its samples diverged.

  Raises:
    ConfigError: if no distance is among the figures, or none is finite.
  """
  figure = choose_metric({'': rows}, '')
  ways = [
    (role, way)
    for role in options.model
    for way in tried(blueprint, role, options)
  ]
  best: dict[Any, tuple[Row, Sampling]] = {}
  for (role, way), found in zip(ways, groups(rows), strict=True):
    row = measured(found, figure)
    known = best.get((role, way.nfe))
    better = known is None or row[figure] < known[0][figure]
    if better and math.isfinite(row[figure]):
      best[role, way.nfe] = row, way
  if not best:
    raise ConfigError(f'--tune: {figure} is finite for none of the ways')
  presets = [preset(row, way, figure) for row, way in best.values()]
  write_presets(blueprint.folder, presets)
  return sorted(presets, key=lambda preset: (preset.model, preset.nfe))


def groups(rows: Sequence[Row]) -> list[list[Row]]:
  """Consecutive rows of the same examples."""
  how = operator.itemgetter('model', 'sampler', 'nfe')
  grouped = itertools.groupby(rows, lambda r: (*how(r), r.get('options')))
  return [list(found) for _, found in grouped]


def measured(rows: Sequence[Row], figure: str) -> Row:
  """The first row that has the figure, which is NaN if none has."""
  return next(
    (row for row in rows if figure in row), {**rows[0], figure: math.nan}
  )


def preset(row: Row, way: Sampling, figure: str) -> Preset:
  """The preset of a row."""
  return Preset(
    model=row['model'],
    sampler=way.sampler,
    nfe=int(row['nfe']),
    options=way.how(),
    figure=figure,
    value=float(row[figure]),
    samples=int(row['samples']) * int(row.get('sets', 1)),
    seed=int(row['seed']),
    step=int(row['step']),
    weights=row.get('weights', 'ema'),
  )


def tell(presets: Sequence[Preset]) -> None:
  """Says which way is the best for each NFE."""
  for each in presets:
    how = format_options(each.options)
    say(
      f'best {each.model} of {each.nfe} NFE: {each.sampler}'
      f'{f" ({how})" if how else ""}, {each.figure} {each.value:.4g}'
    )
