"""Batches in an order that is a function of (seed, position) alone.

Example number i of a run is `permutation(n, seed, epoch)[place]` with
(epoch, place) = divmod(i, n), and batch k holds the examples k b to (k + 1) b.
So a run resumes from one number, and hosts agree without communication. Of a
source with `buckets` each batch is of one of them (see `bucket_order.py`). A
stream has an order of its own. A source whose examples are random has
`draw(index, epoch, seed)`, which is called in place of indexing it. Grain reads
batches ahead and keeps them in order. Its own shuffle computes indices one by
one, 4 ms for a batch of 128; a permutation of a whole epoch takes less than
0.1 ms.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np

from flowdistill.datasets.bucket_order import BucketOrder
from flowdistill.datasets.permutation import permutation
from flowdistill.datasets.source import Batch, RandomAccess, check_arrays
from flowdistill.datasets.stream import Stream, length_of

# Two at a time: while the last pictures of a batch are decoded and the batch is
# assembled, the other cores begin with the next one.
READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
# A stream is read by one thread, so that its batches stay in their order.
IN_TURN = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
BatchAt = Callable[[int], Batch]


def make_batches(
  source: RandomAccess | Stream,
  *,
  batch_size: int,
  seed: int,
  start: int = 0,
  process: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
  """Endless batches; with random access, each epoch has every example once.

  A batch may reach over the end of an epoch, and may be larger than an epoch.

  Args:
    source: of the examples.
    batch_size: examples of a batch, over all processes.
    seed: of the order, at least 0.
    start: global batches that were consumed before, at least 0.
    process: (p, P), the index of this process and their number; it gets the
      rows p b/P to (p + 1) b/P of every batch. A stream may divide a batch in
      another way.

  Raises:
    ValueError: naming the value that is out of range, or the array of a stream
      that does not match its spec.
  """
  _check(source, batch_size, seed, start, process)
  if isinstance(source, Stream):
    batch = _of_stream(source, batch_size, seed, start, process)
  elif getattr(source, 'buckets', None) is not None:
    batch = _by_bucket(source, batch_size, seed, process)
  else:
    batch = _by_position(source, batch_size, seed, process)
  reading = IN_TURN if isinstance(source, Stream) else READ_AHEAD
  positions = grain.MapDataset.range(start, sys.maxsize)
  return iter(positions.map(batch).to_iter_dataset(reading))


def _by_position(
  source: RandomAccess, batch_size: int, seed: int, process: tuple[int, int]
) -> BatchAt:
  index, count = process
  rows = batch_size // count
  permute = functools.lru_cache(maxsize=2)(
    functools.partial(permutation, len(source), seed)
  )

  def batch(k: int) -> Batch:
    first = k * batch_size + index * rows
    epoch, place = np.divmod(np.arange(first, first + rows), len(source))
    examples = [permute(int(e))[place[epoch == e]] for e in np.unique(epoch)]
    places = np.concatenate(examples)
    draw = getattr(source, 'draw', None)
    return source[places] if draw is None else draw(places, epoch, seed)

  return batch


def _by_bucket(
  source: Any, batch_size: int, seed: int, process: tuple[int, int]
) -> BatchAt:
  order = BucketOrder(source.bucket_of, batch_size, seed)
  rows = batch_size // process[1]
  own = slice(process[0] * rows, (process[0] + 1) * rows)

  def batch(k: int) -> Batch:
    bucket, pictures = order.batch(k)
    return source.cropped(pictures[own], bucket)

  return batch


def _of_stream(
  source: Stream,
  batch_size: int,
  seed: int,
  start: int,
  process: tuple[int, int],
) -> BatchAt:
  """The batches of a stream, which must be asked for one after the other."""
  batches = source.batches(batch_size, seed=seed, start=start, process=process)

  def batch(k: int) -> Batch:
    arrays = next(batches, None)
    if arrays is None:
      raise ValueError(f'the stream ended before batch {k}; it must be endless')
    check_arrays(source.spec, arrays, batch_size // process[1], f'batch {k}')
    return arrays

  return batch


def _check(
  source: RandomAccess | Stream,
  batch_size: int,
  seed: int,
  start: int,
  process: tuple[int, int],
) -> None:
  index, count = process
  if length_of(source) == 0:
    raise ValueError('the data set is empty')
  if batch_size < 1:
    raise ValueError(f'batch_size = {batch_size} must be at least 1')
  if seed < 0:
    raise ValueError(f'seed = {seed} must be at least 0')
  if start < 0:
    raise ValueError(f'start = {start} must be at least 0')
  if not 0 <= index < count:
    raise ValueError(f'process = {process} must be (p, P) with 0 <= p < P')
  if batch_size % count:
    below = batch_size // count * count
    near = [str(b) for b in (below, below + count) if b]
    raise ValueError(
      f'batch_size = {batch_size} must be a multiple of {count}, the number of '
      f'processes, such as {" or ".join(near)}'
    )
