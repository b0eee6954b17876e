"""Batches of one bucket each, in an order that is a function of (seed, k).

Each bucket has an endless order of its own, in which every pass has each of its
pictures once; its batch j is the pictures j b to (j + 1) b of that. After epoch
e a bucket of m pictures has had ⌊e m / b⌋ batches: what is left over at the end
of an epoch, less than a batch, is carried over and comes first in the next one.
Within an epoch the buckets take turns at random. So nothing is lost, nothing
comes twice in a pass, and a run resumes from k alone.
"""

import bisect
import functools

import numpy as np

from flowdistill.datasets.permutation import permutation


class BucketOrder:
  """Which pictures batch k has.

  Args:
    bucket_of: the bucket of each picture, int [n].
    batch_size: b, over all processes.
    seed: of the order, at least 0.
  """

  def __init__(self, bucket_of: np.ndarray, batch_size: int, seed: int):
    self.batch_size, self.seed, self.n = batch_size, seed, len(bucket_of)
    numbers = range(int(bucket_of.max()) + 1)
    self.members = [np.flatnonzero(bucket_of == number) for number in numbers]
    self._turns = functools.lru_cache(maxsize=2)(self._turns_of)
    # A pass of every bucket, so that they do not replace each other.
    self._permute = functools.lru_cache(maxsize=2 * len(self.members))(
      functools.partial(_permutation, seed)
    )

  def batch(self, k: int) -> tuple[int, np.ndarray]:
    """(bucket, pictures int [b]) of batch k."""
    epoch = self.epoch_of(k)
    place = k - self.before(epoch)
    turns = self._turns(epoch)
    bucket = int(turns[place])
    earlier = int(np.count_nonzero(turns[:place] == bucket))
    return bucket, self._pictures(bucket, self._had(bucket, epoch) + earlier)

  def before(self, epoch: int) -> int:
    """The number of batches before an epoch."""
    return sum(self._had(bucket, epoch) for bucket in range(len(self.members)))

  def epoch_of(self, k: int) -> int:
    """The epoch of batch k: the last one before which there are at most k."""
    # `before(e)` is at most e n / b, and less by less than one per bucket.
    most = (k + len(self.members)) * self.batch_size // self.n + 1
    epochs = range(k * self.batch_size // self.n, most + 1)
    return epochs[bisect.bisect_right(epochs, k, key=self.before) - 1]

  def _had(self, bucket: int, epoch: int) -> int:
    return epoch * len(self.members[bucket]) // self.batch_size

  def _turns_of(self, epoch: int) -> np.ndarray:
    """The buckets of the batches of an epoch, in order."""
    numbers = range(len(self.members))
    counts = [self._had(b, epoch + 1) - self._had(b, epoch) for b in numbers]
    turns = np.repeat(numbers, counts)
    return turns[permutation(len(turns), self.seed, epoch)]

  def _pictures(self, bucket: int, number: int) -> np.ndarray:
    """Those of a batch of a bucket, by its number among these."""
    members, first = self.members[bucket], number * self.batch_size
    every = np.arange(first, first + self.batch_size)
    passes, places = np.divmod(every, len(members))
    orders = [
      self._permute(len(members), int(number), bucket)[places[passes == number]]
      for number in np.unique(passes)
    ]
    return members[np.concatenate(orders)]


def _permutation(seed: int, n: int, number: int, bucket: int) -> np.ndarray:
  return permutation(n, seed, number, bucket)
