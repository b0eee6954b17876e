"""A data set that is opened when the first example is read."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowdistill.datasets.stream import Stream, length_of
from flowdistill.flow.spec import DataSpec
from flowdistill.training.lengths import Length


@dataclasses.dataclass(frozen=True)
class DataRecord:
  """What a run records of its data, so that later jobs need not open them.

  Attributes:
    spec: of the examples.
    size: their number; None for a stream of unknown length.
    stream: whether they can only be read in order, not by index.
  """

  spec: DataSpec
  size: int | None
  stream: bool = False

  def to_json(self) -> dict[str, Any]:
    """The record as plain data for JSON; the inverse of `of`."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, record: Mapping[str, Any]) -> 'DataRecord':
    """The record from the result of `to_json`."""
    return cls(DataSpec.of(record['spec']), record['size'], record['stream'])


class Data:
  """Examples by index, from a source that is opened once, on first use.

  With the `record` of a run it is opened only when examples are read.
  """

  def __init__(
    self, open_source: Callable[[], Any], record: DataRecord | None = None
  ):
    self._open, self._record = open_source, record

  @functools.cached_property
  def source(self) -> Any:
    """The source itself."""
    return self._open()

  @functools.cached_property
  def record(self) -> DataRecord:
    """The record of the run if there is one, else that of the source."""
    return self.actual if self._record is None else self._record

  @property
  def actual(self) -> DataRecord:
    """The record of the source itself."""
    stream = isinstance(self.source, Stream)
    return DataRecord(self.source.spec, length_of(self.source), stream)

  @property
  def spec(self) -> DataSpec:
    """The spec of the examples."""
    return self.record.spec

  def __len__(self) -> int:
    if self.record.stream:
      raise ValueError('this data set is a stream, which has no index')
    return self.record.size or len(self.source)

  def __getitem__(self, index: Any) -> Mapping[str, np.ndarray]:
    return self.source[index]

  def conditions(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """The conditions of examples, without their images."""
    return self.source.conditions(index) if self.spec.cond else {}

  @property
  def figures(self) -> np.ndarray | None:
    """The number of the figure that each example shows, if known."""
    return getattr(self.source, 'figures', None)

  def to_steps(self, length: Length, batch_size: int) -> int:
    """A length in steps of `batch_size` examples.

    Raises:
      ValueError: for epochs of a stream of unknown length.
    """
    size = self.record.size
    if size is None and length.epochs is not None:
      raise ValueError(
        f'{length} needs the number of examples, which is unknown for this '
        'stream: set num_samples of the data set, or give the length in steps '
        'or images'
      )
    return length.to_steps(batch_size, size or 1)
