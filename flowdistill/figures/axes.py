"""Axes of charts: scales, and the numbers along them."""

import dataclasses
import math
from collections.abc import Sequence

APART = 24  # pixels between two numbers at an axis


@dataclasses.dataclass(frozen=True)
class Tick:
  """A number at an axis, and its place along it."""

  at: float
  text: str


@dataclasses.dataclass(frozen=True)
class Scale:
  """Values from `low` to `high` -> pixels from `start` to `end`."""

  low: float
  high: float
  start: float
  end: float
  log: bool

  def __call__(self, value: float) -> float:
    low, high, value = map(self._bent, (self.low, self.high, value))
    share = (value - low) / (high - low)
    return round(self.start + share * (self.end - self.start), 1)

  def _bent(self, value: float) -> float:
    return math.log(value) if self.log else value


def scale_of(
  values: Sequence[float], start: float, end: float, log: bool
) -> Scale:
  """The scale that shows all values; a single one is in its middle."""
  low, high = min(values), max(values)
  if low == high:
    more = abs(low) / 2 or 1.0
    low, high = (low / 2, high * 2) if log else (low - more, high + more)
  return Scale(low, high, start, end, log)


def nice(scale: Scale) -> list[float]:
  """1, 2 or 5 times powers of ten within a scale, at most about six."""
  if scale.log:
    low, high = (math.floor(math.log10(v)) for v in (scale.low, scale.high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
      values = [f * 10.0**e for e in range(low, high + 1) for f in factors]
      values = [v for v in values if scale.low <= v <= scale.high]
      if len(values) <= 6:
        break
    if len(values) > 1:
      return values
  step = (scale.high - scale.low) / 5
  unit = 10.0 ** math.floor(math.log10(step))
  unit *= next(f for f in (1, 2, 5, 10) if f * unit >= step)
  first = math.ceil(scale.low / unit)
  last = math.floor(scale.high / unit)
  return list(dict.fromkeys(k * unit for k in range(first, last + 1)))


def ticks(values: Sequence[float], scale: Scale) -> list[Tick]:
  """The numbers that do not touch the one before; no two are spelled alike."""
  kept: list[float] = []
  for value in values:
    if not kept or abs(scale(value) - scale(kept[-1])) >= APART:
      kept.append(value)
  for digits in (4, 8, 17):
    texts = [spelled(value, digits) for value in kept]
    if len(set(texts)) == len(texts):
      break
  return [Tick(scale(v), text) for v, text in zip(kept, texts, strict=True)]


def spelled(value: float, digits: int = 4) -> str:
  """'0.05', '1000', '20k', '1.5M', '1e-07'."""
  for least, unit, letter in (
    (1e9, 1e9, 'G'),
    (1e6, 1e6, 'M'),
    (1e4, 1e3, 'k'),
  ):
    if least <= abs(value) < 1e12:
      return f'{value / unit:.{digits}g}{letter}'
  return f'{value:.{digits}g}'


def drawable(value: float) -> bool:
  """Whether a chart can show a number: it is finite, and its range too."""
  return value == 0 or 1e-300 < abs(value) < 1e300
