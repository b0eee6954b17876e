"""How far few steps end from where the teacher's ODE does, from one noise."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowdistill.evaluators.curve import curve
from flowdistill.evaluators.signature import Data, Features, Models, Row
from flowdistill.evaluators.sweep import (
  SWEEP,
  Cell,
  cells,
  check_samples,
  conditions,
  draw,
)

STUDENT: dict[str, Any] = {'student': SWEEP['student']}
REFERENCE: dict[str, Any] = {'teacher': [['heun', 63]]}


def teacher_distance(
  models: Models,
  source: Data,
  features: Features | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = STUDENT,
  reference: dict[str, Any] = REFERENCE,
  samples: int = 512,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row per entry with `teacher_distance`; at the end draws the curve.

  √E(x − y)², a mean over examples and coordinates, with x of the sweep and y
  of the reference from the same noise, in the units of the data.

  Args:
    models: role -> model.
    source: of the conditions.
    features: unused, every evaluator takes it.
    folder: of the stage; the curve is samples/teacher_distance.png in it.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    reference: the same, with one entry: the teacher's ODE, finely solved. For
      the student of a guided teacher it has the option 'guidance'.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range.
  """
  del features
  todo = cells(sweep, models)
  fine, *more = cells(reference, models, option='reference')
  check_samples(samples)
  if more:
    raise ValueError(f'reference = {reference}, it must have one entry')
  path = folder / 'samples' / 'teacher_distance.png'
  return _rows(models, source, path, todo, fine, samples, seed)


def _rows(
  models: Models,
  source: Data,
  path: pathlib.Path,
  todo: list[Cell],
  fine: Cell,
  samples: int,
  seed: int,
) -> Iterator[Row]:
  cond, rows = conditions(source, samples), []
  reference, y = draw(models, fine, samples, cond, seed)
  for cell in todo:
    drawn, x = draw(models, cell, samples, cond, seed)
    row = {
      **drawn.row(),
      'reference': f'{reference.model} {reference}',
      'samples': samples,
      'seed': seed,
      'teacher_distance': float(np.sqrt(np.square(x - y).mean())),
    }
    rows.append(row)
    yield row
  curve(path, rows, metric='teacher_distance')
