"""What metrics take of a set of examples, kept block by block."""

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np

from flowdistill.metrics.metric import Metric, Needs
from flowdistill.metrics.moments import RunningMoments


class MetricLaw(Protocol):
  """law() -> a metric with its options bound."""

  def __call__(self) -> Metric: ...


class Summary:
  """Of examples whose features come in blocks.

  Moments are of a constant size; features and logits grow with the examples, in
  float32, and are kept only if they are needed.

  Args:
    needs: 'moments', 'features', 'logits'.
  """

  def __init__(self, needs: Collection[Needs]):
    self._needs = needs
    self._running: RunningMoments | None = None
    self._kept: dict[str, list[np.ndarray]] = {'features': [], 'logits': []}

  def add(self, features: np.ndarray, logits: np.ndarray) -> None:
    """Adds examples with features [n, d] and logits [n, k].

    Raises:
      ValueError: if a feature is not finite.
    """
    if 'moments' in self._needs:
      block = RunningMoments.of(features)
      before = self._running or RunningMoments.empty(features.shape[1])
      self._running = before.merged(block)
    if 'features' in self._needs:
      self._kept['features'].append(np.asarray(features, np.float32))
    if 'logits' in self._needs:
      self._kept['logits'].append(np.asarray(logits, np.float32))

  def get(self, needs: Needs) -> Any:
    """The moments, or the features [n, d] or logits [n, k] of all examples.

    Raises:
      ValueError: if they were not kept, or there are too few examples.
    """
    if needs == 'moments' and self._running is not None:
      return self._running.moments()
    if not self._kept.get(needs):
      raise ValueError(f'no {needs} were kept')
    return np.concatenate(self._kept[needs])


def measure(
  metric: Metric, samples: Summary, reference: Summary
) -> dict[str, float]:
  """The figures of a metric, by name.

  Raises:
    ValueError: as the metric.
  """
  ours = samples.get(metric.needs)
  if metric.needs == 'logits':
    return metric.function(ours)
  return metric.function(ours, reference.get(metric.needs))
