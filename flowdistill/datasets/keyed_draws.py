"""Random numbers that are a function of (seed, index) in every version.

They are the raw numbers of Philox, a generator of which the key may be chosen,
divided by 2⁶⁴. NumPy keeps these as they are, but not its distributions.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2,
3" (2011), https://doi.org/10.1145/2063384.2063405.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

AT_ONCE = 64  # raw numbers
T = TypeVar('T')


class KeyedDraws:
  """Independent draws, one after the other.

  Args:
    seed: in 0 ... 2⁶⁴ − 1.
    index: of an example, in the same range.
  """

  def __init__(self, seed: int, index: int):
    self._raw = np.random.Philox(key=np.asarray([seed, index], np.uint64))
    self._left: list[float] = []

  def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
    """Uniform in [low, high)."""
    if not self._left:
      self._left = (self._raw.random_raw(AT_ONCE) * 2.0**-64).tolist()
    return low + (high - low) * self._left.pop(0)

  def below(self, n: int) -> int:
    """One of 0 ... n − 1."""
    return min(int(self.uniform() * n), n - 1)

  def choose(self, among: Sequence[T]) -> T:
    """One of a sequence."""
    return among[self.below(len(among))]

  def choose_distinct(self, among: Sequence[T], n: int) -> list[T]:
    """n of a sequence, without repetition, in random order."""
    left = list(among)
    return [left.pop(self.below(len(left))) for _ in range(n)]

  def chance(self, probability: float) -> bool:
    """True with a probability."""
    return self.uniform() < probability
