"""Which samplers and numbers of evaluations are measured, and drawing them.

A sweep is role -> list of [sampler, nfe] or [sampler, nfe, options]; its order
is that of the rows. An adaptive sampler has the nfe None. The options are those
of the sampler, 'grid' and 'guidance'.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.evaluators.signature import Data, Models, Row

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
HEADS = ('name', 'scale')  # what stands before the brackets of an option


@dataclasses.dataclass(frozen=True)
class Cell:
  """One entry of a sweep.

  Attributes:
    model: a role.
    sampler: by name.
    nfe: calls of the network for one example; of an adaptive sampler None, and
      once it has drawn the mean over the examples.
    options: of the sampler, 'grid' and 'guidance'.
    adaptive: whether the sampler finds its number of calls itself.
  """

  model: str
  sampler: str
  nfe: float | None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  adaptive: bool = False

  def __str__(self) -> str:
    nfe = 'adaptive' if self.nfe is None else f'{self.nfe:.4g} NFE'
    how = f' ({spell(self.options)})' if self.options else ''
    return f'{self.sampler.replace("_", " ")} {nfe}{how}'

  def row(self) -> Row:
    """How examples were drawn, as a row says it."""
    options = {'options': spell(self.options)} if self.options else {}
    adaptive = {'adaptive': True} if self.adaptive else {}
    return {
      'model': self.model,
      'sampler': self.sampler,
      'nfe': self.nfe,
      **options,
      **adaptive,
    }


def spell(options: Mapping[str, Any]) -> str:
  """'gamma=0.5, grid=shifted(shift=2), guidance=1.5(low=0.2)'."""
  return ', '.join(f'{name}={_spell(v)}' for name, v in options.items())


def _spell(value: Any) -> str:
  if not isinstance(value, Mapping):
    return str(value)
  head = ''.join(str(value[key]) for key in HEADS if key in value)
  rest = {key: each for key, each in value.items() if key not in HEADS}
  return f'{head}({spell(rest)})' if rest else head


def cells(
  sweep: Mapping[str, Any], roles: Iterable[str], *, option: str = 'sweep'
) -> list[Cell]:
  """The entries of a sweep, in its order.

  Args:
    sweep: role -> list of entries.
    roles: those that there are.
    option: what the sweep is called in the config, for errors.

  Raises:
    ValueError: if it is empty, names a role that is not among `roles`, or an
      entry is none.
  """
  roles = list(roles)
  for role in sweep:
    if role not in roles:
      raise ValueError(
        f'{option} has the role {role!r}, the roles there are: {roles}'
      )
    if not isinstance(sweep[role], list | tuple):
      raise ValueError(
        f'{option}[{role!r}] = {sweep[role]!r}, it must be a list of '
        '[sampler, nfe]'
      )
  found = [_cell(role, e, option) for role, es in sweep.items() for e in es]
  if not found:
    raise ValueError(
      f"{option} = {sweep!r} is empty; it must be like {{'student': "
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
  if source.labels is None:
    return {}
  return {'label': np.resize(source.labels, n)}


def draw(
  models: Models,
  cell: Cell,
  n: int,
  cond: Mapping[str, np.ndarray],
  seed: int,
) -> tuple[Cell, np.ndarray]:
  """The entry with the NFE that it took, and its n examples."""
  drawn = models[cell.model](
    n,
    sampler=cell.sampler,
    nfe=None if cell.nfe is None else int(cell.nfe),
    cond=cond,
    seed=seed,
    **cell.options,
  )
  nfe = float(np.mean(drawn.nfe))
  nfe = int(nfe) if nfe.is_integer() else nfe
  return dataclasses.replace(cell, nfe=nfe), np.asarray(drawn.x)


def draw_timed(
  models: Models,
  cell: Cell,
  n: int,
  cond: Mapping[str, np.ndarray],
  seed: int,
) -> tuple[Cell, np.ndarray, float]:
  """As `draw`, and milliseconds for one example, without compilation."""
  draw(models, cell, 1, {k: rows[:1] for k, rows in cond.items()}, seed)
  start = time.perf_counter()
  drawn, x = draw(models, cell, n, cond, seed)
  return drawn, x, (time.perf_counter() - start) * 1000 / n


def check_samples(samples: int) -> None:
  """Raises ValueError unless a distance can be measured on so many."""
  if samples < 2:
    raise ValueError(f'samples = {samples}, it must be at least 2')


def _cell(role: str, entry: Any, option: str) -> Cell:
  """Raises ValueError unless it is [sampler, nfe] or [sampler, nfe, dict]."""
  match entry:
    case [str(sampler), nfe, *rest] if _is_nfe(nfe) and _are_options(rest):
      return Cell(role, sampler, nfe, *rest, adaptive=nfe is None)
  raise ValueError(
    f'{option}[{role!r}] has {entry!r}, it must be [sampler, nfe] like '
    "['euler', 4], or [sampler, nfe, {options}]; nfe is None for an adaptive "
    'sampler'
  )


def _is_nfe(nfe: Any) -> bool:
  whole = isinstance(nfe, int) and not isinstance(nfe, bool)
  return nfe is None or (whole and nfe >= 1)


def _are_options(rest: Sequence[Any]) -> bool:
  if not rest:
    return True
  options = isinstance(rest[0], Mapping) and len(rest) == 1
  return options and not {'sampler', 'nfe'} & set(rest[0])
