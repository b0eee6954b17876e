"""The distance of samples in few steps from those of the teacher's ODE."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowdistill.evaluators.curve import curve
from flowdistill.evaluators.signature import Data, Gauge, Models, Row
from flowdistill.evaluators.sweep import (
  SWEEP,
  SweepEntry,
  check_samples,
  conditions,
  draw,
  parse_sweep,
)

STUDENT: dict[str, Any] = {'student': SWEEP['student']}
REFERENCE: dict[str, Any] = {'teacher': [['heun', 63]]}


def teacher_distance(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = STUDENT,
  reference: dict[str, Any] = REFERENCE,
  samples: int = 512,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row per entry with `teacher_distance`, and then draws the curve.

  It is √E(x − y)² in the units of the data, a mean over examples and
  coordinates, where x of the sweep and y of the reference have the same noise.

  Args:
    models: role -> model.
    source: of the conditions.
    features: not used.
    folder: of the stage; the curve is samples/teacher_distance.png in it.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    reference: the same, with one entry: the teacher's ODE in many steps. For
      the student of a guided teacher it has the option 'guidance'.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range.
  """
  del features
  entries = parse_sweep(sweep, models)
  fine, *others = parse_sweep(reference, models, option='reference')
  check_samples(samples)
  if others:
    raise ValueError(f'reference = {reference} must have one entry')
  path = folder / 'samples' / 'teacher_distance.png'
  return _rows(models, source, path, entries, fine, samples, seed)


def _rows(
  models: Models,
  source: Data,
  path: pathlib.Path,
  entries: list[SweepEntry],
  fine: SweepEntry,
  samples: int,
  seed: int,
) -> Iterator[Row]:
  cond, rows = conditions(source, samples), []
  reference, y = draw(models, fine, samples, cond, seed)
  for each in entries:
    entry, x = draw(models, each, samples, cond, seed)
    row = {
      **entry.columns(),
      'reference': f'{reference.model} {reference}',
      'samples': samples,
      'seed': seed,
      'teacher_distance': float(np.sqrt(np.square(x - y).mean())),
    }
    rows.append(row)
    yield row
  curve(path, rows, metric='teacher_distance')
