"""Sources that are read in an order of their own."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from flowdistill.datasets.source import Batch, RandomAccess
from flowdistill.flow.spec import DataSpec


@runtime_checkable
class Stream(Protocol):
  """Examples in an order of its own, such as that of shards.

  `num_samples` is the length of an epoch, None if unknown. `batches` is
  endless; of each batch of `batch_size` examples it yields the
  `batch_size` / P of process p, where process = (p, P), and it begins with
  global batch `start`. It is a function of its arguments: a run resumes at the
  same example on the same number of processes.
  """

  @property
  def spec(self) -> DataSpec: ...
  @property
  def num_samples(self) -> int | None: ...
  def batches(
    self, batch_size: int, /, *, seed: int, start: int, process: tuple[int, int]
  ) -> Iterator[Batch]: ...


def length_of(source: RandomAccess | Stream) -> int | None:
  """The number of examples in an epoch, None if unknown."""
  return source.num_samples if isinstance(source, Stream) else len(source)
