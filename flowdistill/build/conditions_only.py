"""Examples of which only the conditions are read."""

import dataclasses
from typing import Any

import numpy as np

from flowdistill.datasets.source import Batch
from flowdistill.flow.spec import DataSpec


@dataclasses.dataclass(frozen=True)
class ConditionsOnly:
  """A source with random access whose x0 is 0: no picture of it is opened.

  Attributes:
    source: of the conditions, such as captions.
    spec: of the examples as networks see them.
  """

  source: Any
  spec: DataSpec

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: Any) -> Batch:
    """One example for an int, a batch of them for an array of ints [b]."""
    x0 = np.zeros((*np.shape(index), *self.spec.shape), np.float32)
    return {'x0': x0, **self.conditions(index)}

  def conditions(self, index: Any) -> Batch:
    """The conditions of the examples `index` [b]."""
    return self.source.conditions(index)
