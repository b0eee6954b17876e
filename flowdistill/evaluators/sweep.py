"""A sweep: which samplers are measured at how many network evaluations.

A sweep is role -> list of [sampler, nfe] or [sampler, nfe, options], in the
order of the rows. The nfe of an adaptive sampler is None. The options are those
of the sampler, 'grid' and 'guidance'.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.evaluators.signature import Data, Drawn, Model, Models, Row

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
DIVERGED = 'diverged'  # in place of figures: samples of a block, not finite
MAIN = ('name', 'scale')  # keys of an option that stand before its brackets


@dataclasses.dataclass(frozen=True)
class SweepEntry:
  """One entry of a sweep.

  Attributes:
    model: a role.
    sampler: by name.
    nfe: network calls for one example; for an adaptive sampler None, and after
      drawing the mean over the examples.
    options: of the sampler, 'grid' and 'guidance'.
    adaptive: whether the sampler chooses its number of calls.
  """

  model: str
  sampler: str
  nfe: float | None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  adaptive: bool = False

  def __str__(self) -> str:
    nfe = 'adaptive' if self.nfe is None else f'{self.nfe:.4g} NFE'
    how = f' ({format_options(self.options)})' if self.options else ''
    return f'{self.sampler.replace("_", " ")} {nfe}{how}'

  def columns(self) -> Row:
    """The columns of a row that say how examples were drawn."""
    row = {'model': self.model, 'sampler': self.sampler, 'nfe': self.nfe}
    if self.options:
      row['options'] = format_options(self.options)
    if self.adaptive:
      row['adaptive'] = True
    return row


def format_options(options: Mapping[str, Any]) -> str:
  """'gamma=0.5, grid=shifted(shift=2), guidance=1.5(low=0.2)'."""
  return ', '.join(f'{name}={_format(v)}' for name, v in options.items())


def _format(value: Any) -> str:
  if not isinstance(value, Mapping):
    return str(value)
  main = ''.join(str(value[key]) for key in MAIN if key in value)
  rest = {key: each for key, each in value.items() if key not in MAIN}
  return f'{main}({format_options(rest)})' if rest else main


def parse_sweep(
  sweep: Mapping[str, Any], roles: Iterable[str], *, option: str = 'sweep'
) -> list[SweepEntry]:
  """The entries of a sweep, in its order.

  Args:
    sweep: role -> list of entries.
    roles: those that exist.
    option: the key of the sweep in the config, for errors.

  Raises:
    ValueError: if it is empty, has a role that does not exist, or an entry that
      is malformed.
  """
  roles = list(roles)
  for role in sweep:
    if role not in roles:
      raise ValueError(
        f'{option} has the role {role!r}; it must be one of {roles}'
      )
    if not isinstance(sweep[role], list | tuple):
      raise ValueError(
        f'{option}[{role!r}] = {sweep[role]!r} must be a list of [sampler, nfe]'
      )
  entries = [
    _parse_entry(role, entry, option)
    for role, listed in sweep.items()
    for entry in listed
  ]
  if not entries:
    raise ValueError(
      f"{option} = {sweep!r} must have entries, like {{'student': "
      "[['flow_map', 1], ['flow_map', 2]]}"
    )
  return entries


def grid_cells(entries: Sequence[SweepEntry]) -> list[tuple[int, int]]:
  """The place of each entry in a picture: (by NFE, by model).

  Entries of one NFE are level. If a model has two of one NFE, the second is
  one level below the first.
  """
  keys = []
  for i, entry in enumerate(entries):
    way = entry.model, entry.nfe
    repeats = sum((e.model, e.nfe) == way for e in entries[:i])
    keys.append((entry.nfe, repeats))
  levels = sorted(set(keys))
  models = list(dict.fromkeys(entry.model for entry in entries))
  return [
    (levels.index(key), models.index(entry.model))
    for key, entry in zip(keys, entries, strict=True)
  ]


def conditions(source: Data, n: int) -> dict[str, np.ndarray]:
  """The conditions [n, ...] of the data in their order, repeated cyclically."""
  return source.conditions(np.arange(n) % len(source))


def draw(
  models: Models,
  entry: SweepEntry,
  n: int,
  cond: Mapping[str, np.ndarray],
  seed: int,
) -> tuple[SweepEntry, np.ndarray]:
  """The entry as `as_drawn`, and n examples."""
  model = models[entry.model]
  drawn = draw_from(model, entry, n, cond, seed)
  return as_drawn(model, entry, drawn.nfe), np.asarray(drawn.x)


def draw_from(
  model: Model,
  entry: SweepEntry,
  n: int,
  cond: Mapping[str, np.ndarray],
  seed: int,
  first: int = 0,
) -> Drawn:
  """Examples number `first` to `first` + n − 1, with the calls of each."""
  return model(
    n,
    sampler=entry.sampler,
    nfe=None if entry.nfe is None else int(entry.nfe),
    cond=cond,
    seed=seed,
    first=first,
    **{**model.defaults_of(entry.sampler), **entry.options},
  )


def as_drawn(model: Model, entry: SweepEntry, nfe: np.ndarray) -> SweepEntry:
  """The entry with the mean of measured calls, and its model's defaults."""
  mean = float(np.mean(nfe))
  return dataclasses.replace(
    entry,
    nfe=int(mean) if mean.is_integer() else mean,
    options={**model.defaults_of(entry.sampler), **entry.options},
  )


def draw_timed(
  models: Models,
  entry: SweepEntry,
  n: int,
  cond: Mapping[str, np.ndarray],
  seed: int,
) -> tuple[SweepEntry, np.ndarray, float]:
  """As `draw`, and milliseconds for one example, without compilation."""
  draw(models, entry, 1, {k: rows[:1] for k, rows in cond.items()}, seed)
  start = time.perf_counter()
  measured, x = draw(models, entry, n, cond, seed)
  return measured, x, (time.perf_counter() - start) * 1000 / n


def check_finite(rows: Iterable[Row]) -> None:
  """Raises ValueError if a role has diverged in all rows of a sweep."""
  finite: dict[str, bool] = {}
  for row in rows:
    model = row['model']
    finite[model] = finite.get(model, False) or DIVERGED not in row
  if lost := [model for model, some in finite.items() if not some]:
    raise ValueError(
      f'the samples of {" and ".join(lost)} are not finite, in whichever way '
      'they are drawn'
    )


def check_samples(samples: int) -> None:
  """Raises ValueError unless there are enough to measure a distance."""
  if samples < 2:
    raise ValueError(f'samples = {samples} must be at least 2')


def _parse_entry(role: str, entry: Any, option: str) -> SweepEntry:
  """Raises ValueError unless it is [sampler, nfe] or [sampler, nfe, dict]."""
  match entry:
    case [str(sampler), nfe, *rest] if _is_nfe(nfe) and _are_options(rest):
      return SweepEntry(role, sampler, nfe, *rest, adaptive=nfe is None)
  raise ValueError(
    f'{option}[{role!r}] has {entry!r}; it must be [sampler, nfe] like '
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
