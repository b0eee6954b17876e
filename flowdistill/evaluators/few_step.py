"""Quality in few steps: Fréchet distance, accuracy, memorisation, speed."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from flowdistill.evaluators.curve import curve
from flowdistill.evaluators.reference import (
  DivergedError,
  Needed,
  check_file,
  features_of,
  of_network,
  reference,
)
from flowdistill.evaluators.signature import (
  Data,
  Features,
  Gauge,
  Models,
  Row,
  real_index,
)
from flowdistill.evaluators.sweep import (
  DIVERGED,
  SWEEP,
  SweepEntry,
  check_finite,
  check_samples,
  conditions,
  draw_timed,
  parse_sweep,
)
from flowdistill.flow.spec import LABEL
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.metric import Needs, figure_name
from flowdistill.metrics.moments import moments
from flowdistill.metrics.neighbours import memorised
from flowdistill.metrics.precision_recall import precision_recall
from flowdistill.metrics.relatives import memorised_relatives
from flowdistill.metrics.summary import Summary

REAL = 10_000
Memorised = Callable[[np.ndarray, np.ndarray], float]


def few_step(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  samples: int = 3594,
  seed: int = 0,
  picture: str = 'frechet_over_nfe',
  flips: bool = False,
  by_figure: bool = False,
  precision_recall: bool = False,
) -> Iterator[Row]:
  """Yields a row per entry of the sweep, and then draws the curve.

  Every model is given the conditions of the data. Its samples are compared with
  all of the data, or with 10 000 examples evenly spread over larger data:
  `frechet_<features>`; `accuracy`, where examples have labels and the feature
  network as many classes: the share of samples that it classifies as their
  label; `memorised` (see `metrics/neighbours.py`, 0.5 for fresh data; with one
  of its two options `metrics/relatives.py`) and `ms_per_image`. An entry whose
  samples are not finite has `diverged`, how many are so, in place of figures.

  Args:
    models: role -> model.
    source: the real examples.
    features: the feature network; exactly one.
    folder: of the stage; the curve is samples/<picture>.png in it.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.
    picture: the file name of the curve.
    flips: whether a sample that is near to a mirrored example is memorised.
    by_figure: whether what is near is measured between examples of different
      figures, for data in which several examples show one, such as `emoji`.
    precision_recall: whether there are `precision_<features>` and
      `recall_<features>` (see `metrics/precision_recall.py`, 3 neighbours).

  Raises:
    ValueError: if there are no features, or an option is out of range; with
      `precision_recall`, for a reference that is a file of moments; at the
      end, if no entry of a role has finite samples.
  """
  entries = parse_sweep(sweep, models)
  check_samples(samples)
  if features is None:
    raise ValueError(
      'few_step needs a feature network: set evaluation.features, or use '
      "the evaluator 'energy' for points"
    )
  if len(features.networks) > 1:
    raise ValueError(
      'few_step measures by one feature network; several are for the evaluator '
      "'quality'"
    )
  path = folder / 'samples' / f'{picture}.png'
  share = memorised
  if flips or by_figure:
    share = functools.partial(
      memorised_relatives, kin=kin_of(source, by_figure), flips=flips
    )
  needs: list[Needs] = ['moments', *(['features'] if precision_recall else [])]
  needed = {features.networks[0].name: needs}
  if features.reference is not None:
    check_file(features, features.reference, needed)
  return _rows(
    models, source, features, path, entries, samples, seed, share, needed
  )


def kin_of(source: Data, by_figure: bool) -> np.ndarray:
  """A number per example; those of one figure have the same if `by_figure`.

  Raises:
    ValueError: if the data have no figures.
  """
  index = real_index(source, REAL)
  if not by_figure:
    return index
  if source.figures is None:
    raise ValueError(
      'by_figure = True needs data in which several examples show one figure, '
      'such as emoji; set by_figure = False'
    )
  return source.figures[index]


def _rows(
  models: Models,
  source: Data,
  gauge: Gauge,
  path: pathlib.Path,
  entries: list[SweepEntry],
  samples: int,
  seed: int,
  share: Memorised,
  needed: Needed,
) -> Iterator[Row]:
  (network,) = gauge.networks
  training = source[real_index(source, REAL)]['x0']
  real = reference(gauge, source, REAL, needed)
  cond = conditions(source, samples)
  classes = source.spec.num_classes
  rows = []
  for each in entries:
    entry, x, ms = draw_timed(models, each, samples, cond, seed)
    how = {**entry.columns(), 'samples': samples, 'seed': seed}
    row = {**how, **network.about, **real.about}
    try:
      row |= _figures(x, cond, classes, network, real.summaries, needed)
      row |= {'memorised': share(x, training), 'ms_per_image': ms}
    except DivergedError as error:
      row[DIVERGED] = error.bad
    rows.append(row)
    yield row
  if finite := [row for row in rows if DIVERGED not in row]:
    curve(path, finite, metric=figure_name('frechet', network.name))
  check_finite(rows)


def _figures(
  x: np.ndarray,
  cond: dict[str, np.ndarray],
  classes: int,
  network: Features,
  real: Mapping[str, Summary],
  needed: Needed,
) -> Row:
  own = network.name
  wanted: Needed = {own: ['features', 'logits']}
  found = of_network(features_of([network], x, wanted), own)
  distance = frechet_distance(
    moments(found['features']), real[own].moments('features')
  )
  figures = {figure_name('frechet', own): distance}
  logits = found.get('logits')
  if LABEL in cond and logits is not None and logits.shape[-1] == classes:
    correct = np.argmax(logits, axis=-1) == cond[LABEL]
    figures['accuracy'] = float(np.mean(correct))
  if 'features' in needed[own]:
    figures |= _precision(found['features'], real[own].all('features'), own)
  return figures


def _precision(samples: np.ndarray, real: np.ndarray, network: str) -> Row:
  found = precision_recall(samples, real)
  return {figure_name(name, network): found[name] for name in found}
