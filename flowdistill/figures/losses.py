"""Metrics of training over the steps, thinned, in bounded time and memory."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

POINTS = 300  # of a curve, at most; even
WHOLE = 2**22  # bytes of a file that is read whole
BLOCKS, BLOCK = 256, 2**14  # of a larger one: number, and bytes of each
MOST = 12  # curves
LOSS = 'loss'  # is drawn first; lines without it are of evaluators


@dataclasses.dataclass(frozen=True)
class Curve:
  """A metric over the steps.

  Attributes:
    name: of the metric.
    points: (step, value), in the order of steps; each is a mean.
    mean_of: number of logged values in a point, at most.
  """

  name: str
  points: tuple[tuple[float, float], ...]
  mean_of: int


class Thinned:
  """At most 300 points of many: when there are more, pairs are averaged."""

  def __init__(self) -> None:
    self.sums: list[tuple[float, float, int]] = []
    self.mean_of, self._open = 1, 0

  def add(self, step: float, value: float) -> None:
    """Adds the value of a step that is later than those before."""
    if self._open:
      self.sums[-1] = _sum(self.sums[-1], (step, value, 1))
    else:
      self.sums.append((step, value, 1))
    self._open = (self._open + 1) % self.mean_of
    if len(self.sums) > POINTS:
      self._halve()

  def curve(self, name: str) -> Curve:
    """The means so far."""
    points = tuple((step / n, value / n) for step, value, n in self.sums)
    return Curve(name, points, self.mean_of)

  def _halve(self) -> None:
    last = self.sums.pop()  # the first value of a point
    pairs = zip(self.sums[::2], self.sums[1::2], strict=True)
    self.sums = [*(_sum(a, b) for a, b in pairs), last]
    self.mean_of, self._open = 2 * self.mean_of, 1


def curves(path: pathlib.Path, notes: list[str]) -> list[Curve]:
  """The curves of a metrics file, the loss first; [] if there is none.

  Args:
    path: of the metrics.jsonl of a stage. Of a file above 4 MB lines in 256
      places are read.
    notes: gets a sentence about what is left out.
  """
  thinned: dict[str, Thinned] = {}
  damaged, skipped, last = 0, set[str](), -math.inf
  try:
    for line in _lines(path, notes):
      row = _row(line)
      if row is None:
        damaged += 1
      if row is None or LOSS not in row or row['step'] <= last:
        continue
      last = row['step']
      for name, value in _scalars(row):
        if name in thinned or len(thinned) < MOST:
          thinned.setdefault(name, Thinned()).add(last, value)
        else:
          skipped.add(name)
  except OSError as error:
    notes.append(f'{error}.')
  if damaged:
    notes.append(f'{path.name}: {damaged} damaged lines are left out.')
  if skipped:
    notes.append(f'{len(skipped)} more metrics are in {path.name}.')
  order = sorted(thinned, key=lambda name: name != LOSS)
  return [thinned[name].curve(name) for name in order]


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
  """The finite numbers of a row, except what counts its progress."""
  for name in sorted(row, key=lambda name: name != LOSS):
    value = row[name]
    known = isinstance(value, int | float) and math.isfinite(value)
    if known and name not in ('step', 'images'):
      yield name, float(value)


def _row(line: bytes) -> dict[str, Any] | None:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  known = isinstance(row, dict) and isinstance(row.get('step'), int | float)
  return row if known and math.isfinite(row['step']) else None


def _lines(path: pathlib.Path, notes: list[str]) -> Iterator[bytes]:
  """The complete lines of a file, of a large one some in all parts of it."""
  if not path.is_file():
    return
  with path.open('rb') as file:
    size = os.fstat(file.fileno()).st_size
    if size <= WHOLE:
      yield from (
        line for line in file.read(WHOLE).splitlines(True) if _ends(line)
      )
      return
    notes.append(f'{path.name} is large: some of its lines are shown.')
    for k in range(BLOCKS):
      yield from _block(file, k * (size - BLOCK) // (BLOCKS - 1))


def _block(file: BinaryIO, start: int) -> Iterator[bytes]:
  """The complete lines between a byte and those that follow it."""
  file.seek(start)
  lines = file.read(BLOCK).splitlines(True)
  yield from (line for line in lines[bool(start) :] if _ends(line))


def _ends(line: bytes) -> bool:
  return line.endswith(b'\n')


def _sum(
  a: tuple[float, float, int], b: tuple[float, float, int]
) -> tuple[float, float, int]:
  return a[0] + b[0], a[1] + b[1], a[2] + b[2]
