"""Disjoint sets of samples, of which features are all that is kept."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowdistill.evaluators.reference import (
  Needed,
  blocks,
  features_of,
  of_network,
)
from flowdistill.evaluators.signature import Arrays, Data, Gauge, Model, Row
from flowdistill.evaluators.sweep import SweepEntry, as_drawn, draw_from
from flowdistill.metrics.summary import Summary

NFE, CAPTIONS = 'nfe', 'captions'


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnSets:
  """Sets that were drawn.

  Attributes:
    columns: of a row: how they were drawn.
    sets: name of a network -> what is known of its features, for each set.
  """

  columns: Row
  sets: Sequence[Mapping[str, Summary]]


@dataclasses.dataclass(frozen=True)
class SampleSets:
  """How sets are drawn, and what is taken of them.

  Set k has the examples from k `samples` on, of the seed, with the conditions
  of the data.

  Attributes:
    gauge: the feature networks.
    source: the data.
    needed: what metrics need.
    samples: of a set.
    sets: number of sets.
    seed: of the noise.
  """

  gauge: Gauge
  source: Data
  needed: Needed
  samples: int
  sets: int
  seed: int

  @property
  def total(self) -> int:
    """Samples of all sets."""
    return self.samples * self.sets

  def columns(self, entry: SweepEntry) -> Row:
    """How an entry is drawn."""
    numbers = {'samples': self.samples, 'sets': self.sets, 'seed': self.seed}
    return {**entry.columns(), **numbers}

  def about(self, model: Model, entry: SweepEntry) -> Row:
    """All that the features of an entry depend on."""
    options = {**model.defaults_of(entry.sampler), **entry.options}
    return {
      **self.columns(entry),
      'options': options,
      'networks': [dict(n.about) for n in self.gauge.networks],
      'conditions': self.source.identity,
    }

  def draw(
    self,
    model: Model,
    entry: SweepEntry,
    about: Row,
    advance: Callable[[int], None],
  ) -> DrawnSets:
    """Draws the sets of an entry, or takes the blocks that were kept.

    Args:
      model: that is sampled.
      entry: of a sweep.
      about: of the rows that the blocks are kept for.
      advance: is called with the number of samples of every block.
    """
    sets: list[dict[str, Summary]] = []
    nfes: list[np.ndarray] = []
    for i in range(self.sets):
      sets.append({n: Summary(needs) for n, needs in self.needed.items()})
      for block in blocks(i * self.samples, self.samples):
        found = self.gauge.kept(
          {'of': about, 'first': block[0], 'count': len(block)},
          lambda index=block: self._features(model, entry, index),
        )
        for name, summary in sets[-1].items():
          summary.add(of_network(found, name))
        nfes.append(found[NFE])
        advance(len(block))
    drawn = as_drawn(model, entry, np.concatenate(nfes))
    return DrawnSets(self.columns(drawn), sets)

  def _features(
    self, model: Model, entry: SweepEntry, index: np.ndarray
  ) -> Arrays:
    """Those of a block of samples, and the network calls of each."""
    places = index % len(self.source)
    cond, n = self.source.conditions(places), len(index)
    drawn = draw_from(model, entry, n, cond, self.seed, int(index[0]))
    x = np.asarray(drawn.x)
    found = features_of(self.gauge.networks, x, self.needed)
    for network in self.gauge.networks:
      if 'pairs' in self.needed[network.name]:
        captions = self.source.captions(places) or []
        found[f'{network.name}/{CAPTIONS}'] = network.text(captions)
    return {**found, NFE: np.asarray(drawn.nfe, np.int32)}
