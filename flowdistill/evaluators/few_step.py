"""Quality in few steps: Fréchet distance, accuracy, memorisation, speed."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowdistill.evaluators.curve import curve
from flowdistill.evaluators.signature import (
  Data,
  Features,
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
from flowdistill.flow.spec import LABEL
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import Moments, moments
from flowdistill.metrics.neighbours import memorised

REAL = 10_000


def few_step(
  models: Models,
  source: Data,
  features: Features | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  samples: int = 3594,
  seed: int = 0,
  picture: str = 'frechet_over_nfe',
) -> Iterator[Row]:
  """Yields a row per entry of the sweep, and then draws the curve.

  Every model is given the conditions of the data. Its samples are compared with
  all of the data, or with 10 000 examples evenly spread over larger data:
  `frechet_<features>`; `accuracy`, where examples have labels: the share of
  samples that the feature network classifies as their label; `memorised` (see
  `metrics/neighbours.py`; 0.5 for fresh data) and `ms_per_image`.

  Args:
    models: role -> model.
    source: the real examples.
    features: the feature network.
    folder: of the stage; the curve is samples/<picture>.png in it.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.
    picture: the file name of the curve.

  Raises:
    ValueError: if there are no features, or an option is out of range.
  """
  entries = parse_sweep(sweep, models)
  check_samples(samples)
  if features is None:
    raise ValueError(
      'few_step needs a feature network: set evaluation.features, or use '
      "the evaluator 'energy' for points"
    )
  path = folder / 'samples' / f'{picture}.png'
  return _rows(models, source, features, path, entries, samples, seed)


def _rows(
  models: Models,
  source: Data,
  features: Features,
  path: pathlib.Path,
  entries: list[SweepEntry],
  samples: int,
  seed: int,
) -> Iterator[Row]:
  training = real_examples(source, REAL)
  real = moments(features(training)[0])
  cond = conditions(source, samples)
  rows = []
  for each in entries:
    entry, x, ms = draw_timed(models, each, samples, cond, seed)
    row = {
      **entry.columns(),
      'samples': samples,
      'seed': seed,
      **_figures(x, cond, training, features, real),
      'ms_per_image': ms,
    }
    rows.append(row)
    yield row
  curve(path, rows, metric=f'frechet_{features.name}')


def _figures(
  x: np.ndarray,
  cond: dict[str, np.ndarray],
  training: np.ndarray,
  features: Features,
  real: Moments,
) -> Row:
  ours, logits = features(x)
  figures = {f'frechet_{features.name}': frechet_distance(moments(ours), real)}
  if LABEL in cond:
    correct = np.argmax(logits, axis=-1) == cond[LABEL]
    figures['accuracy'] = float(np.mean(correct))
  return {**figures, 'memorised': memorised(x, training)}
