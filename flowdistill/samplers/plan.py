"""From names and a number of network calls to what is run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.samplers import GRIDS, SAMPLERS
from flowdistill.samplers.control import Control
from flowdistill.samplers.grids import falls
from flowdistill.samplers.guided import Guidance, Interval, calls, interval
from flowdistill.samplers.sampler import AverageVelocity, Sampler

Grid = str | Mapping[str, Any]
"""A name in GRIDS, or {'name': a name, and that grid's options}."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What is run. Compiled once per sampler, options and number of steps.

  Attributes:
    sampler: a name in SAMPLERS.
    options: of the sampler, as (name, value), sorted.
    times: where the sampler stops, float32 [steps + 1].
    guidance: None where there is none.
    nfe: network calls of one example, None if only the run will tell.
  """

  sampler: str = dataclasses.field(metadata={'static': True})
  options: tuple[tuple[str, Any], ...] = dataclasses.field(
    metadata={'static': True}
  )
  times: Any
  guidance: Interval | None
  nfe: Any

  def method(self, u: AverageVelocity) -> Sampler:
    """The sampler for a network."""
    return SAMPLERS[self.sampler](u, **dict(self.options))

  @property
  def control(self) -> Control | None:
    """Of the step size, if the sampler chooses that."""
    return self.method(lambda x, t, s: x).control


def make_plan(
  sampler: str,
  nfe: int | None,
  options: Mapping[str, Any],
  *,
  grid: Grid = 'uniform',
  guidance: Guidance | None = None,
  backwards: bool = False,
) -> Plan:
  """Chooses the number of steps in which the sampler makes `nfe` calls.

  Args:
    sampler: a name in SAMPLERS.
    nfe: network calls for one example, a guided one counted twice; None for a
      sampler that chooses its steps.
    options: of the sampler.
    grid: a name in GRIDS, or a dict with that name and the grid's options.
    guidance: λ, or a dict (see `guided`).
    backwards: whether it goes from data to noise.

  Raises:
    ValueError: for an unknown name, an option out of range, an nfe that the
      sampler cannot have, or a grid that does not fall.
  """
  method = _entry(SAMPLERS, 'sampler', sampler)(lambda x, t, s: x, **options)
  _check_kind(sampler, method, nfe, backwards)
  spec = {'name': grid} if isinstance(grid, str) else dict(grid)
  make_grid, made = (
    _entry(GRIDS, 'grid', spec.pop('name', '')),
    interval(guidance),
  )

  def times(steps: int) -> np.ndarray:
    found = make_grid(steps, **spec).astype(np.float32)
    return found[::-1] if backwards else found

  def cost(steps: int) -> int:
    return int(calls(made, method.asks(times(steps))).sum())

  # Times that are listed are for one number of steps.
  listed = [len(spec['times']) - 1] if 'times' in spec else None
  steps = 1 if nfe is None else steps_for(cost, nfe, listed)
  chosen = times(steps)
  if not falls(chosen[::-1] if backwards else chosen):
    raise ValueError(f'grid = {grid!r} must fall in {steps} steps: {chosen}')
  return Plan(
    sampler=sampler,
    options=tuple(sorted(options.items())),
    times=chosen,
    guidance=made,
    nfe=nfe,
  )


def steps_for(
  cost: Callable[[int], int], nfe: int, choices: list[int] | None = None
) -> int:
  """The number of steps that costs `nfe` network calls.

  Args:
    cost: how many calls a number of steps costs, at least one a step.
    nfe: network calls, at least 1.
    choices: numbers of steps; by default any.

  Raises:
    ValueError: if no number of steps costs that; it names the nearest that do.
  """
  costs = []
  for steps in choices or range(1, max(nfe, 0) + 2):
    costs.append(cost(steps))
    if costs[-1] == nfe:
      return steps
  below = [max(c for c in costs if c < nfe)] if min(costs) < nfe else []
  above = [min(c for c in costs if c > nfe)] if max(costs) > nfe else []
  raise ValueError(
    f'nfe is {nfe}, and this sampler has no such number of network calls: '
    f'the nearest is {" or ".join(map(str, below + above))}'
  )


def _entry(
  table: Mapping[str, Callable[..., Any]], kind: str, name: str
) -> Callable[..., Any]:
  if name not in table:
    raise ValueError(f'{kind} is {name!r}, the choices are {sorted(table)}')
  return table[name]


def _check_kind(
  sampler: str, method: Sampler, nfe: int | None, backwards: bool
) -> None:
  if backwards and not method.reversible:
    raise ValueError(
      f'sampler = {sampler!r} must be a solver of the ODE, such as heun, to go '
      'from data to noise'
    )
  if method.control is None and nfe is None:
    raise ValueError(f'nfe = None must be a number of calls for {sampler!r}')
  if method.control is not None and nfe is not None:
    raise ValueError(
      f'nfe = {nfe} must be None for {sampler!r}: it makes as many calls as '
      'its rtol takes, and counts them'
    )
