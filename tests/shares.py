"""Shares of the slow tests, of which .ci/run runs one.

A test function belongs to one share with all its parameters. Those with
recorded seconds are dealt so that all shares take about as long; a new one goes
where its name hashes to, so that it does not move the others.
"""

import functools
import heapq
import pathlib
import tomllib
import zlib
from collections.abc import Mapping

RECORD = pathlib.Path(__file__).with_name('slow_seconds.toml')


def read_share(text: str) -> tuple[int, int]:
  """(2, 3) of '2/3'.

  Raises:
    ValueError: if it is not K/N with 1 <= K <= N.
  """
  parts = text.split('/')
  if len(parts) == 2 and all(part.isdecimal() for part in parts):
    share, count = map(int, parts)
    if 1 <= share <= count:
      return share, count
  raise ValueError(f'--slow-share = {text} must be K/N with 1 <= K <= N')


def share_of(test: str, count: int) -> int:
  """The share, from 1 to count, of a test by its node id."""
  function = test.partition('[')[0]
  dealt = deal(count)
  return dealt.get(function) or zlib.crc32(function.encode()) % count + 1


@functools.cache
def deal(count: int) -> Mapping[str, int]:
  """Test function -> its share: the longest first, each to the emptiest."""
  seconds, dealt = recorded(), {}
  shares = [(0.0, share) for share in range(1, count + 1)]
  for function in sorted(seconds, key=lambda f: (-seconds[f], f)):
    total, share = heapq.heappop(shares)
    dealt[function] = share
    heapq.heappush(shares, (total + seconds[function], share))
  return dealt


def recorded() -> dict[str, float]:
  """Test function -> how long all its slow parameters took, in seconds."""
  tables = tomllib.loads(RECORD.read_text('utf-8'))
  return {
    f'{file}::{function}': seconds
    for file, table in tables.items()
    for function, seconds in table.items()
  }
