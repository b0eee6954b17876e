"""Lists of names, checked and in messages."""

import collections
from collections.abc import Iterable, Sequence


def check_once(names: Iterable[str]) -> None:
  """Raises ValueError if a name appears twice."""
  counts = collections.Counter(names)
  if twice := [name for name, count in counts.items() if count > 1]:
    raise ValueError(f'{min(twice)} appears twice')


def listed(names: Sequence[str], most: int = 20) -> str:
  """'a, b and 3 others'."""
  more = f' and {len(names) - most} others' if len(names) > most else ''
  return f'{", ".join(names[:most])}{more}'
