"""How good are few steps: Fréchet distance, class accuracy, memory, speed."""

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
  Cell,
  cells,
  check_samples,
  conditions,
  draw_timed,
)
from flowdistill.metrics.frechet import Moments, frechet_distance, moments
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
  """Yields a row per entry of the sweep; at the end draws the curve.

  Every model is given the labels of the data, and is measured against all of
  the data, or 10 000 examples spread over it if it has more:
  `frechet_<features>`, `accuracy` (share of samples that the feature network
  takes for the class that was asked for), `memorised` (see
  `metrics/neighbours.py`; fresh data has 0.5) and `ms_per_image`.

  Args:
    models: role -> model.
    source: the real examples.
    features: the feature network.
    folder: of the stage; the curve is samples/<picture>.png in it.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.
    picture: what the curve is called.

  Raises:
    ValueError: if there are no features, or an option is out of range.
  """
  todo = cells(sweep, models)
  check_samples(samples)
  if features is None:
    raise ValueError(
      'few_step needs a feature network: set evaluation.features, or take '
      "the evaluator 'energy' for points"
    )
  path = folder / 'samples' / f'{picture}.png'
  return _rows(models, source, features, path, todo, samples, seed)


def _rows(
  models: Models,
  source: Data,
  features: Features,
  path: pathlib.Path,
  todo: list[Cell],
  samples: int,
  seed: int,
) -> Iterator[Row]:
  training = real_examples(source, REAL)
  real = moments(features(training)[0])
  cond = conditions(source, samples)
  rows = []
  for cell in todo:
    drawn, x, ms = draw_timed(models, cell, samples, cond, seed)
    row = {
      **drawn.row(),
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
  drawn, logits = features(x)
  figures = {f'frechet_{features.name}': frechet_distance(moments(drawn), real)}
  if 'label' in cond:
    right = np.argmax(logits, axis=-1) == cond['label']
    figures['accuracy'] = float(np.mean(right))
  return {**figures, 'memorised': memorised(x, training)}
