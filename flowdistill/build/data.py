"""A data set that is opened when it is first asked for an example."""

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
  """What a run records of its data, so that it need not be there.

  Attributes:
    spec: of the examples.
    size: how many; None for a stream that does not say.
    stream: whether they have an order of their own, and no index.
  """

  spec: DataSpec
  size: int | None
  stream: bool = False

  def to_json(self) -> dict[str, Any]:
    """As JSON has it; `of` reads it."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, record: Mapping[str, Any]) -> 'DataRecord':
    """The record that `to_json` described."""
    return cls(DataSpec.of(record['spec']), record['size'], record['stream'])


class Data:
  """Examples by index, like a source, which is opened once.

  Args:
    open_source: opens it.
    record: of a run that was made with it: then what it is is known without
      it, as long as nobody asks for an example.
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
    """What it is, by the record if there is one."""
    return self.actual if self._record is None else self._record

  @property
  def actual(self) -> DataRecord:
    """What it is, by the source itself."""
    source = self.source
    stream = isinstance(source, Stream)
    return DataRecord(source.spec, length_of(source), stream)

  @property
  def spec(self) -> DataSpec:
    """Of the examples."""
    return self.record.spec

  def __len__(self) -> int:
    if self.record.stream:
      raise ValueError('this data set is a stream: it has no index')
    return self.record.size or len(self.source)

  def __getitem__(self, index: Any) -> Mapping[str, np.ndarray]:
    return self.source[index]

  def conditions(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """The conditions of examples, without their pictures."""
    if not self.spec.cond:
      return {}
    return self.source.conditions(index)

  def to_steps(self, length: Length, batch_size: int) -> int:
    """A length in steps of `batch_size` examples.

    Raises:
      ValueError: for epochs of a stream whose length is not known.
    """
    size = self.record.size
    if size is None and length.epochs is not None:
      raise ValueError(
        f'{length} needs the number of examples, and this stream does not say '
        'it: set num_samples of the data set, or give the length in steps or '
        'images'
      )
    return length.to_steps(batch_size, size or 1)
