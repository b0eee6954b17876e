"""Which samplers and numbers of evaluations are measured, and drawing them.

A sweep is role -> list of [sampler, nfe]; its order is that of the rows.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.evaluators.signature import Data, Models

SWEEP: dict[str, Any] = {
  'teacher': [
    ['euler', 1],
    ['euler', 2],
    ['euler', 4],
    ['euler', 8],
    ['heun', 31],
  ],
  'student': [
    ['flow_map', 1],
    ['flow_map', 2],
    ['flow_map', 4],
    ['flow_map', 8],
  ],
}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One entry of a sweep."""

  model: str
  sampler: str
  nfe: int

  def __str__(self) -> str:
    return f'{self.sampler.replace("_", " ")} {self.nfe} NFE'


def cells(sweep: Mapping[str, Any], roles: Iterable[str]) -> list[Cell]:
  """The entries of a sweep, in its order.

  Raises:
    ValueError: if it is empty, names a role that is not among `roles`, or an
      entry is not [sampler, nfe].
  """
  roles = list(roles)
  for role in sweep:
    if role not in roles:
      raise ValueError(
        f'sweep has the role {role!r}, the roles there are: {roles}'
      )
    if not isinstance(sweep[role], list | tuple):
      raise ValueError(
        f'sweep[{role!r}] = {sweep[role]!r}, it must be a list of '
        '[sampler, nfe]'
      )
  found = [_cell(role, e) for role, each in sweep.items() for e in each]
  if not found:
    raise ValueError(
      f"sweep = {sweep!r} is empty; it must be like {{'student': "
      "[['flow_map', 1], ['flow_map', 2]]}"
    )
  return found


def places(todo: Sequence[Cell]) -> list[tuple[int, int]]:
  """Where each entry stands in a picture: (by NFE, by model).

  Entries of one NFE are level; where a model has two of one NFE, its second
  stands below.
  """
  keys = []
  for i, cell in enumerate(todo):
    same = [c for c in todo[:i] if (c.model, c.nfe) == (cell.model, cell.nfe)]
    keys.append((cell.nfe, len(same)))
  levels = sorted(set(keys))
  models = list(dict.fromkeys(cell.model for cell in todo))
  return [
    (levels.index(key), models.index(cell.model))
    for key, cell in zip(keys, todo, strict=True)
  ]


def conditions(source: Data, n: int) -> dict[str, np.ndarray]:
  """The labels of the data, over and over: its balance of classes, [n]."""
  if not source.num_classes:
    return {}
  return {'label': np.resize(source.arrays['label'], n)}


def draw_timed(
  models: Models,
  cell: Cell,
  n: int,
  cond: Mapping[str, np.ndarray],
  seed: int,
) -> tuple[np.ndarray, float]:
  """n examples, and milliseconds for one of them, without compilation."""
  draw = models[cell.model]
  how: dict[str, Any] = {
    'sampler': cell.sampler,
    'nfe': cell.nfe,
    'seed': seed,
  }
  draw(1, cond={name: rows[:1] for name, rows in cond.items()}, **how)
  start = time.perf_counter()
  x = np.asarray(draw(n, cond=cond, **how))
  return x, (time.perf_counter() - start) * 1000 / n


def check_samples(samples: int) -> None:
  """Raises ValueError unless a distance can be measured on so many."""
  if samples < 2:
    raise ValueError(f'samples = {samples}, it must be at least 2')


def _cell(role: str, entry: Any) -> Cell:
  """Raises ValueError unless the entry is [sampler, nfe]."""
  match entry:
    case [str(sampler), int(nfe)] if nfe >= 1 and not isinstance(nfe, bool):
      return Cell(role, sampler, nfe)
  raise ValueError(
    f'sweep[{role!r}] has {entry!r}, it must be [sampler, nfe] like '
    "['euler', 4]"
  )
