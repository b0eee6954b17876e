"""The energy distance to the data, for points in the plane."""

import pathlib
from collections.abc import Iterator
from typing import Any

from flowdistill.evaluators.signature import (
  Data,
  Features,
  Models,
  Row,
  real_examples,
)
from flowdistill.evaluators.sweep import (
  SWEEP,
  Cell,
  cells,
  check_samples,
  conditions,
  draw_timed,
)
from flowdistill.metrics.energy import energy_distance


def energy(
  models: Models,
  source: Data,
  features: Features | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  samples: int = 2000,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row per entry of the sweep, with `energy_distance`.

  Args:
    models: role -> model.
    source: the real examples, of which at most `samples` are compared.
    features: unused, every evaluator takes it.
    folder: unused as well.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  todo = cells(sweep, models)
  check_samples(samples)
  return _rows(models, source, todo, samples, seed)


def _rows(
  models: Models, source: Data, todo: list[Cell], samples: int, seed: int
) -> Iterator[Row]:
  real = real_examples(source, samples)
  cond = conditions(source, samples)
  for cell in todo:
    drawn, x, ms = draw_timed(models, cell, samples, cond, seed)
    yield {
      **drawn.row(),
      'samples': samples,
      'seed': seed,
      'energy_distance': energy_distance(x, real),
      'ms_per_image': ms,
    }
