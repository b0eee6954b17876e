"""The best way of sampling for each NFE, among those that were measured."""

from collections.abc import Sequence
from typing import Any

from flowdistill.build.blueprint import Blueprint
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

  Raises:
    ConfigError: if no distance is among the figures.
  """
  figure = choose_metric({'': rows}, '')
  ways = {
    name_of(role, way): way
    for role in options.model
    for way in tried(blueprint, role, options)
  }
  measured = [row for row in rows if figure in row]
  best: dict[Any, Row] = {}
  for row in sorted(measured, key=lambda row: row[figure]):
    best.setdefault((row['model'], row['nfe']), row)
  presets = [preset(row, ways[key(row)], figure) for row in best.values()]
  write_presets(blueprint.folder, presets)
  return sorted(presets, key=lambda preset: (preset.model, preset.nfe))


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


def name_of(role: str, way: Sampling) -> tuple[Any, ...]:
  """What identifies a way of sampling in a row."""
  return role, way.sampler, way.nfe, format_options(way.how())


def key(row: Row) -> tuple[Any, ...]:
  """The `name_of` the way by which a row's samples were drawn."""
  return row['model'], row['sampler'], row['nfe'], row.get('options', '')


def tell(presets: Sequence[Preset]) -> None:
  """Says which way is the best for each NFE."""
  for each in presets:
    how = format_options(each.options)
    say(
      f'best {each.model} of {each.nfe} NFE: {each.sampler}'
      f'{f" ({how})" if how else ""}, {each.figure} {each.value:.4g}'
    )
