"""Quality of samples by any of METRICS, over disjoint sets of seeds."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

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
  draw,
  parse_sweep,
)
from flowdistill.metrics.metric import Metric, Needs, figure_name
from flowdistill.metrics.spread import SETS, spread
from flowdistill.metrics.summary import MetricLaw, Summary, measure

FRECHET: Any = {'frechet': 'frechet'}  # as a config says it
BLOCK = 1024  # samples that are drawn and kept as pictures at once
ERRORS = ('_error', '_deviation')  # figures that are an uncertainty themselves


def quality(
  models: Models,
  source: Data,
  features: Features | None,
  folder: pathlib.Path,
  *,
  metrics: Mapping[str, MetricLaw] = FRECHET,
  sweep: dict[str, Any] = SWEEP,
  samples: int = 10_000,
  sets: int = SETS,
  real: int = 50_000,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row per entry of the sweep.

  Each of the sets has `samples` samples, the first one from examples 0 to
  `samples` − 1 of the seed. A figure is the mean over the sets, its `_spread`
  their standard deviation: that of sampling; another training moves it more.
  Figures have the name of the feature network, such as `frechet_digits`, and
  are those of `fid` only for the network of FID.

  Samples have the conditions of the data. They are drawn and forgotten in
  blocks; only features are kept, where a metric compares all of them.

  Args:
    models: role -> model.
    source: the real examples.
    features: the feature network.
    folder: unused, every evaluator takes it.
    metrics: any names -> metrics.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples of a set, at least 2.
    sets: number of sets, at least 1.
    real: number of real examples at most, evenly spread over all.
    seed: of the noise.

  Raises:
    ValueError: if there are no features, too few samples for a metric, or an
      option is out of range.
  """
  del folder
  entries = parse_sweep(sweep, models)
  check_samples(samples)
  bound = {name: law() for name, law in metrics.items()}
  _check(bound, samples, sets, real)
  if features is None:
    raise ValueError(
      'quality needs a feature network: set evaluation.features, or use the '
      "evaluator 'energy' for points"
    )
  chosen = list(bound.values())
  return _rows(
    models, source, features, entries, chosen, (samples, sets, real, seed)
  )


def _check(
  metrics: Mapping[str, Metric], samples: int, sets: int, real: int
) -> None:
  if not metrics:
    raise ValueError("metrics = {} must have one, like {'fd': 'frechet'}")
  if sets < 1:
    raise ValueError(f'sets = {sets} must be at least 1')
  if real < 2:
    raise ValueError(f'real = {real} must be at least 2')
  for name, metric in metrics.items():
    if metric.needs not in ('moments', 'features', 'logits'):
      raise ValueError(
        f'metrics.{name}: this evaluator has no {metric.needs} of examples'
      )
    if samples < (least := metric.least()):
      raise ValueError(
        f'samples = {samples} must be at least {least} for metrics.{name}'
      )


def _rows(
  models: Models,
  source: Data,
  features: Features,
  entries: list[SweepEntry],
  metrics: list[Metric],
  counts: tuple[int, int, int, int],
) -> Iterator[Row]:
  samples, sets, most, seed = counts
  needs: set[Needs] = {metric.needs for metric in metrics}
  real = Summary(needs)
  for block in _blocks(0, min(most, len(source))):
    real.add(*features(real_examples(source, most, block)))
  if 'logits' in needs and not real.get('logits').shape[1]:
    raise ValueError(f'metrics: {features.name} classifies nothing')
  for each in entries:
    parts = []
    for i in range(sets):
      part = Summary(needs)
      for block in _blocks(i * samples, samples):
        cond = source.conditions(block % len(source))
        entry, x = draw(
          models, each, len(block), cond, seed, first=int(block[0])
        )
        part.add(*features(x))
      parts.append(part)
    yield {
      **entry.columns(),
      'samples': samples,
      'sets': sets,
      'seed': seed,
      **features.about,
      **_figures(metrics, parts, real, features.name),
    }


def _blocks(first: int, n: int) -> Iterator[np.ndarray]:
  """The numbers first to first + n − 1, a block at a time."""
  for start in range(0, n, BLOCK):
    yield first + np.arange(start, min(start + BLOCK, n))


def _figures(
  metrics: list[Metric], parts: list[Summary], real: Summary, network: str
) -> Row:
  """Each figure's mean over the sets, and its spread."""
  row: Row = {}
  for metric in metrics:
    found = [measure(metric, part, real) for part in parts]
    for figure in found[0]:
      over = spread(lambda values, name=figure: values[name], found)
      name = figure_name(figure, network)
      row[name] = over.mean
      if over.deviation is not None and not figure.endswith(ERRORS):
        row[f'{name}_spread'] = over.deviation
  return row
