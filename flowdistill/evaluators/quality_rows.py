"""The rows of `quality`: what is measured of the sets of every entry."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowdistill.evaluators.reference import (
  DivergedError,
  Needed,
  Real,
  moments_of,
)
from flowdistill.evaluators.sample_sets import DrawnSets, SampleSets
from flowdistill.evaluators.signature import Gauge, Model, Row
from flowdistill.evaluators.sweep import DIVERGED, SweepEntry, as_drawn
from flowdistill.metrics.frechet import (
  frechet_distance,
  mean_ratio,
  sampling_bias,
)
from flowdistill.metrics.metric import Metric, figure_name
from flowdistill.metrics.spread import spread
from flowdistill.metrics.summary import MOMENTS, Summary, measure

FRECHET, RATIO = 'frechet', 'frechet_ratio'
ERRORS = ('_error', '_deviation')  # figures that are an uncertainty themselves
Fitting = Mapping[str, Sequence[Metric]]
"""Name of a network -> its metrics."""


@dataclasses.dataclass(frozen=True)
class Unit:
  """The examples for validation.

  Attributes:
    distances: network -> their Fréchet distance from the reference.
    about: columns of a row: which examples they are.
  """

  distances: Mapping[str, float]
  about: Row


@dataclasses.dataclass(frozen=True)
class Work:
  """What is measured of every entry.

  Attributes:
    drawing: how samples are drawn.
    metrics: of each network.
    real: the reference.
    unit: of `frechet_ratio`, None without examples for validation.
  """

  drawing: SampleSets
  metrics: Fitting
  real: Real
  unit: Unit | None

  def rows(
    self, model: Model, entry: SweepEntry, advance: Callable[[int], None]
  ) -> list[Row]:
    """The rows of an entry, or those that were kept; see `DIVERGED`."""
    about = {
      **self.drawing.about(model, entry),
      **self.real.about,
      'metrics': {n: [m.title for m in own] for n, own in self.metrics.items()},
      'unit': None if self.unit is None else dict(self.unit.distances),
    }

    def make() -> Row:
      try:
        drawn = self.drawing.draw(model, entry, about, advance)
      except DivergedError as error:
        return {'rows': self._diverged(model, entry, error.bad)}
      return {'rows': self._of_networks(drawn)}

    return self.drawing.gauge.row(about, make)['rows']

  def _diverged(self, model: Model, entry: SweepEntry, bad: int) -> list[Row]:
    """A row for each network, without figures."""
    nfe = np.array([math.nan if entry.nfe is None else entry.nfe])
    how = self.drawing.columns(as_drawn(model, entry, nfe))
    head = {**how, **self.real.about, DIVERGED: bad}
    return [{**head, **n.about} for n in self.drawing.gauge.networks]

  def _of_networks(self, drawn: DrawnSets) -> list[Row]:
    """A row for each network, and that of their ratio."""
    head = {**drawn.columns, **self.real.about}
    rows = []
    for network in self.drawing.gauge.networks:
      name, own = network.name, self.metrics[network.name]
      parts = [part[name] for part in drawn.sets]
      real, count = self.real.summaries[name], self.drawing.samples
      figures = _figures(own, parts, real, name, count)
      rows.append({**head, **network.about, **_chosen(own), **figures})
    if self.unit is not None:
      rows.append({**head, **self._ratio(rows, self.unit)})
    return rows

  def _ratio(self, rows: list[Row], unit: Unit) -> Row:
    """The ratio of all networks with a Fréchet distance, and what it is of."""
    networks = self.drawing.gauge.networks
    pairs = zip([network.name for network in networks], rows, strict=True)
    found = {name: row for name, row in pairs if name in unit.distances}
    keys = dict.fromkeys(key for network in networks for key in network.about)
    distances = {n: row[figure_name(FRECHET, n)] for n, row in found.items()}
    return {
      **{k: ', '.join(r.get(k, 'none') for r in found.values()) for k in keys},
      'features': ', '.join(found),
      **unit.about,
      RATIO: mean_ratio(distances, unit.distances),
    }


def unit_of(
  gauge: Gauge, metrics: Fitting, real: Real, most: int
) -> Unit | None:
  """The distances of the examples for validation, None if there are none."""
  if gauge.validation is None:
    return None
  needed: Needed = {
    name: ['moments'] if any(m.name == FRECHET for m in own) else []
    for name, own in metrics.items()
  }
  other = moments_of(gauge, gauge.validation, most, needed)
  distances = {
    name: frechet_distance(
      other.summaries[name].moments('features'),
      real.summaries[name].moments('features'),
    )
    for name, needs in needed.items()
    if needs
  }
  named = {'reference': 'validation', 'reference_sha256': 'validation_sha256'}
  return Unit(distances, {named[k]: v for k, v in other.about.items()})


def _chosen(metrics: Sequence[Metric]) -> Row:
  """The metrics whose options are not the defaults, for the row."""
  titles = [metric.title for metric in metrics if metric.title != metric.name]
  return {'metrics': ', '.join(titles)} if titles else {}


def _figures(
  metrics: Sequence[Metric],
  parts: list[Summary],
  real: Summary,
  network: str,
  samples: int,
) -> Row:
  """Each figure's mean over sets of so many samples, its spread and bias."""
  row: Row = {}
  for metric in metrics:
    found = [measure(metric, part, real) for part in parts]
    for figure in found[0]:
      over = spread(lambda values, name=figure: values[name], found)
      name = figure_name(figure, network)
      row[name] = over.mean
      if over.deviation is not None and not figure.endswith(ERRORS):
        row[f'{name}_spread'] = over.deviation
    if metric.needs in MOMENTS:
      name = figure_name(metric.name, network)
      moments = real.moments(MOMENTS[metric.needs])
      row[f'{name}_bias'] = sampling_bias(moments, samples)
  return row
