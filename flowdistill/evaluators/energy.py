"""The energy distance between samples and data, for points in the plane."""

import pathlib
from collections.abc import Iterator
from typing import Any

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
  check_samples,
  conditions,
  draw_timed,
  parse_sweep,
)
from flowdistill.metrics.energy import energy_distance


def energy(
  models: Models,
  source: Data,
  features: Gauge | None,
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
    features: not used.
    folder: not used.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range.
  """
  del features, folder
  entries = parse_sweep(sweep, models)
  check_samples(samples)
  return _rows(models, source, entries, samples, seed)


def _rows(
  models: Models,
  source: Data,
  entries: list[SweepEntry],
  samples: int,
  seed: int,
) -> Iterator[Row]:
  real = real_examples(source, samples)
  cond = conditions(source, samples)
  for each in entries:
    entry, x, ms = draw_timed(models, each, samples, cond, seed)
    yield {
      **entry.columns(),
      'samples': samples,
      'seed': seed,
      'energy_distance': energy_distance(x, real),
      'ms_per_image': ms,
    }
