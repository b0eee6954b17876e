"""The order of the examples of an epoch."""

import numpy as np


def permutation(n: int, seed: int, *key: int) -> np.ndarray:
  """The order of n examples, int [n].

  Args:
    n: their number.
    seed: of the run, at least 0.
    key: of the order: the epoch; or the pass through a bucket, and the bucket.
  """
  sequence = np.random.SeedSequence(seed, spawn_key=key)
  return np.random.default_rng(sequence).permutation(n)
