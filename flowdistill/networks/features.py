"""Feature networks, for metrics: numpy in, numpy out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flowdistill.networks.digit_classifier import load_digit_classifier

BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Features:
  """A feature network and what a distance in its features is called.

  Attributes:
    name: 'digits' makes the metric `frechet_digits`.
    network: x [b, ...] -> (features [b, d], logits [b, k]).
  """

  name: str
  network: Callable[[Any], tuple[jax.Array, jax.Array]]

  def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, ...] -> (features [n, d], logits [n, k]), a batch at a time."""
    parts = [self.network(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    features, logits = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(logits)


def digits() -> Features:
  """The classifier of 8 x 8 digits that ships with the package."""
  return Features('digits', jax.jit(load_digit_classifier().__call__))


FEATURES = {'digits': digits}
