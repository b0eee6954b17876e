"""What a person looks at first: models side by side, from the same noise."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowdistill.evaluators.mosaic import side_by_side
from flowdistill.evaluators.scatter import scatter
from flowdistill.evaluators.signature import (
  Data,
  Features,
  Models,
  Row,
  real_examples,
)
from flowdistill.evaluators.sweep import SWEEP, Cell, cells, draw

COLUMNS, POINTS = 10, 2000


def pictures(
  models: Models,
  source: Data,
  features: Features | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  examples: int | None = None,
  seed: int = 0,
) -> Iterator[Row]:
  """Draws samples/<roles of the sweep, with _and_>.png, and yields no rows.

  Args:
    models: role -> model.
    source: the real examples: images [h, w, 1 or 3] or points [2].
    features: unused, every evaluator takes it.
    folder: of the stage.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    examples: of each model and NFE; None is one per class, 10 where there are
      no classes, 2000 if they are points.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range, or such examples have no picture.
  """
  del features
  todo = cells(sweep, models)
  if examples is not None and examples < 1:
    raise ValueError(f'examples = {examples}, it must be at least 1')
  points = are_points(source.shape)
  n = examples or (POINTS if points else source.num_classes or COLUMNS)
  path = folder / 'samples' / f'{"_and_".join(_roles(todo))}.png'
  return _draw(models, source, path, todo, n, seed)


def _draw(
  models: Models,
  source: Data,
  path: pathlib.Path,
  todo: list[Cell],
  n: int,
  seed: int,
) -> Iterator[Row]:
  label = np.arange(n, dtype=np.int32) % max(source.num_classes, 1)
  cond = {'label': label} if source.num_classes else {}
  drawn = [draw(models, cell, n, cond, seed) for cell in todo]
  if len(source.shape) == 1:
    scatter(path, drawn, real_examples(source, POINTS))
  else:
    headings = [str(k) for k in cond.get('label', ())]
    side_by_side(path, drawn, headings=headings)
  yield from ()


def _roles(todo: list[Cell]) -> list[str]:
  return list(dict.fromkeys(cell.model for cell in todo))


def are_points(shape: tuple[int, ...]) -> bool:
  """Raises ValueError for what is neither an image nor a point."""
  image = len(shape) == 3 and shape[-1] in (1, 3)
  if not image and shape != (2,):
    raise ValueError(
      f'pictures are of images [h, w, 1 or 3] and points [2], not {shape}'
    )
  return not image
