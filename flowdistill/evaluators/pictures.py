"""Samples of several models side by side, from the same noise."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowdistill.evaluators.mosaic import side_by_side
from flowdistill.evaluators.scatter import scatter
from flowdistill.evaluators.sheets import write_sheet
from flowdistill.evaluators.signature import (
  Data,
  Gauge,
  Models,
  Row,
  real_examples,
)
from flowdistill.evaluators.sweep import (
  SWEEP,
  SweepEntry,
  conditions,
  draw,
  parse_sweep,
)
from flowdistill.flow.spec import LABEL

COLUMNS, POINTS = 10, 2000


def pictures(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  examples: int | None = None,
  seed: int = 0,
) -> Iterator[Row]:
  """Draws samples/<roles of the sweep, with _and_>.png, and yields no rows.

  Images are also written to sheets/, a file per entry (see `sheets.py`).

  Args:
    models: role -> model.
    source: the real examples: images [h, w, 1 or 3] or points [2].
    features: unused, every evaluator takes it.
    folder: of the stage.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    examples: of each model and NFE; None is one per class, 10 without classes,
      2000 for points.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range, or such examples have no picture.
  """
  del features
  entries = parse_sweep(sweep, models)
  if examples is not None and examples < 1:
    raise ValueError(f'examples = {examples} must be at least 1')
  points = are_points(source.spec.shape)
  n = examples or (POINTS if points else source.spec.num_classes or COLUMNS)
  roles = dict.fromkeys(entry.model for entry in entries)
  path = folder / 'samples' / f'{"_and_".join(roles)}.png'
  return _draw(models, source, path, entries, n, seed)


def _draw(
  models: Models,
  source: Data,
  path: pathlib.Path,
  entries: list[SweepEntry],
  n: int,
  seed: int,
) -> Iterator[Row]:
  cond = source.spec.each_class(np.arange(n))
  if source.spec.cond.keys() - cond:
    cond = {**conditions(source, n), **cond}
  samples = [draw(models, entry, n, cond, seed) for entry in entries]
  if len(source.spec.shape) == 1:
    scatter(path, samples, real_examples(source, POINTS))
  else:
    headings = [str(k) for k in cond.get(LABEL, ())]
    side_by_side(path, samples, headings=headings)
    for entry, x in samples:
      write_sheet(path.parents[1], entry, x, seed=seed)
  yield from ()


def are_points(shape: tuple[int, ...]) -> bool:
  """Whether examples are points; raises ValueError unless points or images."""
  image = len(shape) == 3 and shape[-1] in (1, 3)
  if not image and shape != (2,):
    raise ValueError(
      f'shape = {shape} must be [h, w, 1 or 3] of images or [2] of points: '
      'other examples have no picture'
    )
  return not image
