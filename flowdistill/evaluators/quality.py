"""Quality of samples by any of METRICS, over disjoint sets of seeds."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.evaluators.quality_rows import (
  FRECHET,
  Fitting,
  Work,
  unit_of,
)
from flowdistill.evaluators.reference import Needed, check_file, reference
from flowdistill.evaluators.sample_sets import SampleSets
from flowdistill.evaluators.signature import (
  Data,
  Features,
  Gauge,
  Models,
  Row,
)
from flowdistill.evaluators.sweep import (
  SWEEP,
  SweepEntry,
  check_finite,
  check_samples,
  parse_sweep,
)
from flowdistill.metrics.metric import Metric
from flowdistill.metrics.spread import SETS
from flowdistill.metrics.summary import MetricLaw, kinds_of

DEFAULT: Any = {FRECHET: FRECHET}  # as a config says it


def quality(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  metrics: Mapping[str, MetricLaw] = DEFAULT,
  sweep: dict[str, Any] = SWEEP,
  samples: int = 10_000,
  sets: int = SETS,
  real: int = 50_000,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row per entry of the sweep and feature network.

  Each of the sets has `samples` samples, the first one from examples 0 to
  `samples` − 1 of the seed. A figure is the mean over the sets, its `_spread`
  their standard deviation: that of sampling; another training moves it more.
  Figures have the name of the feature network, such as `frechet_digits`, and
  are those of `fid` only for the network of FID; a metric is of all networks
  that have what it needs. A Fréchet distance comes with its `_bias`: what of it
  is due to the number of samples. With examples for validation, a row of all
  networks has `frechet_ratio`, the mean of their distances over that of these
  examples.

  Samples have the conditions of the data. They are drawn and forgotten in
  blocks; only features are kept, where a metric compares all of them. What is
  finished when the process is killed is not computed again. An entry whose
  samples are not finite has `diverged`, how many of a block are so, in place of
  figures.

  Args:
    models: role -> model.
    source: the real examples.
    features: the feature networks.
    folder: unused, every evaluator takes it.
    metrics: any names -> metrics.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples of a set, at least 2.
    sets: number of sets, at least 1.
    real: number of real examples at most, evenly spread over all.
    seed: of the noise.

  Raises:
    ValueError: if there are no features, too few samples for a metric, a metric
      that no network is for, or an option is out of range; at the end, if no
      entry of a role has finite samples.
  """
  del folder
  entries = parse_sweep(sweep, models)
  check_samples(samples)
  bound = {name: law() for name, law in metrics.items()}
  check(bound, samples, sets, real)
  if features is None:
    raise ValueError(
      'quality needs a feature network: set evaluation.features, or use the '
      "evaluator 'energy' for points"
    )
  fitting = fit(bound, features.networks, source)
  needed: Needed = {n: [m.needs for m in own] for n, own in fitting.items()}
  check_reference(features, needed, fitting)
  drawing = SampleSets(features, source, needed, samples, sets, seed)
  return _rows(models, drawing, fitting, entries, real)


def check(
  metrics: Mapping[str, Metric], samples: int, sets: int, real: int
) -> None:
  """Raises ValueError for numbers that no metric can be computed of."""
  if not metrics:
    raise ValueError("metrics = {} must have one, like {'fd': 'frechet'}")
  if sets < 1:
    raise ValueError(f'sets = {sets} must be at least 1')
  if real < 2:
    raise ValueError(f'real = {real} must be at least 2')
  for name, metric in metrics.items():
    if samples < (least := metric.least()):
      raise ValueError(
        f'samples = {samples} must be at least {least} for metrics.{name}'
      )


def fit(
  metrics: Mapping[str, Metric], networks: Sequence[Features], source: Data
) -> dict[str, list[Metric]]:
  """Name of a network -> the metrics for which it has what they need.

  Raises:
    ValueError: for a metric that none is for, or a network without a metric.
  """
  fitting: dict[str, list[Metric]] = {n.name: [] for n in networks}
  for name, metric in metrics.items():
    wanted = {'pairs'} if metric.needs == 'pairs' else kinds_of([metric.needs])
    able = [n for n in networks if wanted <= {*n.kinds}]
    if not able:
      raise ValueError(
        f'metrics.{name} needs {" and ".join(sorted(wanted))}, which '
        f'{" and ".join(fitting)} of evaluation.features does not have'
      )
    for network in able:
      fitting[network.name].append(metric)
    if metric.needs == 'pairs' and source.captions(np.zeros(1, int)) is None:
      raise ValueError(
        f'metrics.{name} needs captions, which this data set does not have'
      )
  for name, found in fitting.items():
    if not found:
      raise ValueError(f'evaluation.features: no metric is of {name}')
  return fitting


def check_reference(gauge: Gauge, needed: Needed, fitting: Fitting) -> None:
  """Raises ValueError if a reference or validation has no use for metrics."""
  if gauge.reference is not None:
    check_file(gauge, gauge.reference, needed)
  frechet = any(m.name == FRECHET for own in fitting.values() for m in own)
  if gauge.validation is not None and not frechet:
    raise ValueError(
      'evaluation.validation has no effect: metrics has no frechet'
    )


def _rows(
  models: Models,
  drawing: SampleSets,
  metrics: Fitting,
  entries: list[SweepEntry],
  most: int,
) -> Iterator[Row]:
  gauge = drawing.gauge
  real = reference(gauge, drawing.source, most, drawing.needed)
  work = Work(drawing, metrics, real, unit_of(gauge, metrics, real, most))
  found: list[Row] = []
  for i, entry in enumerate(entries):
    label = f'{entry.model} {entry}, {i + 1} of {len(entries)}'
    total, done = len(entries) * drawing.total, i * drawing.total
    with gauge.watched(total, done, label) as advance:
      rows = work.rows(models[entry.model], entry, advance)
    found += rows
    yield from rows
  check_finite(found)
