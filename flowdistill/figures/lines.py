"""Rows of evaluators side by side: a line for each way of drawing examples."""

import dataclasses
import functools
import json
from collections.abc import Sequence

from flowdistill.evaluators.signature import Row
from flowdistill.figures.cells import number
from flowdistill.figures.columns import (
  DRAWN,
  Key,
  found_beside,
  keyed,
)
from flowdistill.figures.runs import Stage

SAME = (*DRAWN, 'seed', 'seeds')  # of examples that are the same


@dataclasses.dataclass(frozen=True)
class Line:
  """What was measured of examples that were drawn in one way.

  Attributes:
    drawn: a row that says how.
    values: the figures of all rows of these examples.
  """

  drawn: Row
  values: dict[Key, float]

  def beside(self, key: Key, ends: Sequence[str]) -> float | None:
    """The spread or the bias of a figure; None if it is not known."""
    name, how = key
    found = found_beside(name, ends, self._names.get(how, ()))
    return self.values[found, how] if found else None

  @functools.cached_property
  def _names(self) -> dict[str, set[str]]:
    """How figures were measured -> their names; no value is added then."""
    names: dict[str, set[str]] = {}
    for name, how in self.values:
      names.setdefault(how, set()).add(name)
    return names


def rows_of(stages: Sequence[Stage]) -> list[Row]:
  """The rows of stages, with the names of run and stage."""
  return [
    {'run': stage.run, 'stage': stage.name, **row}
    for stage in stages
    for row in stage.rows
  ]


def lines_of(rows: Sequence[Row]) -> list[Line]:
  """Rows of the same examples side by side, in the order of the first one.

  Figures that would be in one cell are in two lines.
  """
  lines: list[Line] = []
  drawn: dict[str, list[Line]] = {}
  for row in rows:
    values = keyed(row)
    same = drawn.setdefault(_same(row), [])
    free = (each for each in same if not each.values.keys() & values.keys())
    line = next(free, None)
    if line is None:
      line = Line(row, {})
      same.append(line)
      lines.append(line)
    line.values.update(values)
  return lines


def _same(row: Row) -> str:
  """Equal for rows of the same examples; 2.0 and 2 are alike."""
  numbers = {key: number(row.get(key)) for key in SAME}
  return json.dumps(
    {k: row.get(k) or None if v is None else v for k, v in numbers.items()}
  )
