"""What metrics take of a set of examples, kept block by block."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from flowdistill.metrics.metric import Metric, Needs
from flowdistill.metrics.moments import Moments, RunningMoments

MOMENTS = {'moments': 'features', 'spatial': 'spatial'}
ARRAYS = {
  'features': ('features',),
  'logits': ('logits',),
  'pairs': ('features', 'captions'),
}
"""What a metric needs -> the kinds of arrays of which all examples are kept."""


class MetricLaw(Protocol):
  """law() -> a metric with its options bound."""

  def __call__(self) -> Metric: ...


def kinds_of(needs: Collection[Needs]) -> set[str]:
  """The kinds of arrays that an example must have."""
  arrays = {kind for need in needs for kind in ARRAYS.get(need, ())}
  return arrays | {MOMENTS[need] for need in needs if need in MOMENTS}


class Summary:
  """Of examples whose features come in blocks.

  Moments are of a constant size; other arrays grow with the examples, in
  float32, and are kept only if they are needed.

  Args:
    needs: of metrics.
    known: kind -> moments that somebody else has computed.
  """

  def __init__(
    self,
    needs: Collection[Needs],
    known: Mapping[str, Moments] = MappingProxyType({}),
  ):
    self._known = known
    self._running: dict[str, RunningMoments | None]
    self._running = dict.fromkeys(MOMENTS[n] for n in needs if n in MOMENTS)
    kept = {kind for need in needs for kind in ARRAYS.get(need, ())}
    self._kept: dict[str, list[np.ndarray]] = {kind: [] for kind in kept}

  def add(self, found: Mapping[str, np.ndarray]) -> None:
    """Adds examples: kind -> array [n, width].

    Raises:
      ValueError: if a feature is not finite.
    """
    for kind, before in self._running.items():
      block = RunningMoments.of(found[kind])
      before = before or RunningMoments.empty(block.mean.size)
      self._running[kind] = before.merged(block)
    for kind, kept in self._kept.items():
      kept.append(np.asarray(found[kind], np.float32))

  def moments(self, kind: str) -> Moments:
    """The moments of the features of a kind.

    Raises:
      ValueError: if they were not kept, or there are too few examples.
    """
    if kind in self._known:
      return self._known[kind]
    if (running := self._running.get(kind)) is None:
      raise ValueError(f'no moments of {kind} were kept')
    return running.moments()

  def all(self, kind: str) -> np.ndarray:
    """The arrays [n, width] of all examples, in float32.

    Raises:
      ValueError: if they were not kept.
    """
    if not self._kept.get(kind):
      raise ValueError(f'no {kind} were kept')
    return np.concatenate(self._kept[kind])


def measure(
  metric: Metric, samples: Summary, reference: Summary
) -> dict[str, float]:
  """The figures of a metric, by name.

  Raises:
    ValueError: as the metric.
  """
  arguments: list[Any]
  if metric.needs in MOMENTS:
    kind = MOMENTS[metric.needs]
    arguments = [samples.moments(kind), reference.moments(kind)]
  elif metric.needs == 'logits':
    arguments = [samples.all('logits')]
  elif metric.needs == 'pairs':
    arguments = [samples.all('features'), samples.all('captions')]
  else:
    arguments = [samples.all('features'), reference.all('features')]
  return metric.function(*arguments)
