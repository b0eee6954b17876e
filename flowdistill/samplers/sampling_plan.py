"""A plan: the sampler, its options, and the times at which it stops."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.samplers import GRIDS, SAMPLERS
from flowdistill.samplers.control import Control
from flowdistill.samplers.guided import NULL, Interval, calls
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
    guidance: None if the network is called once at each time.
    nfe: network calls of one example, None if the run decides it.
    scalars: scalar conditions that every example is given, name -> value.
    against: what guidance leads away from: 'null', the network without its
      condition, or the role of another network.
  """

  sampler: str = dataclasses.field(metadata={'static': True})
  options: tuple[tuple[str, Any], ...] = dataclasses.field(
    metadata={'static': True}
  )
  times: Any
  guidance: Interval | None
  nfe: Any
  scalars: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  against: str = dataclasses.field(default=NULL, metadata={'static': True})

  def method(self, u: AverageVelocity) -> Sampler:
    """The sampler for a network."""
    return SAMPLERS[self.sampler](u, **dict(self.options))

  @property
  def control(self) -> Control | None:
    """Of the step size, if the sampler is adaptive."""
    return self.method(lambda x, t, s: x).control


def make_plan(
  sampler: str,
  nfe: int | None,
  options: Mapping[str, Any],
  *,
  grid: Grid = 'uniform',
  guidance: Interval | None = None,
  backwards: bool = False,
) -> Plan:
  """Chooses the number of steps in which the sampler makes `nfe` calls.

  Names and options are not checked here: `build/sampling.py` does that.

  Args:
    sampler: a name in SAMPLERS.
    nfe: network calls for one example, a guided one counted twice; None for an
      adaptive sampler.
    options: of the sampler.
    grid: a name in GRIDS, or a dict with that name and the grid's options.
    guidance: by a second call of the network.
    backwards: whether it goes from data to noise.

  Raises:
    ValueError: for an option out of range, or an impossible nfe.
  """
  asks = SAMPLERS[sampler](lambda x, t, s: x, **options).asks
  settings = {'name': grid} if isinstance(grid, str) else dict(grid)
  make_grid = GRIDS[settings.pop('name')]

  def times(steps: int) -> np.ndarray:
    falling = make_grid(steps, **settings).astype(np.float32)
    return falling[::-1] if backwards else falling

  def cost(steps: int) -> int:
    return int(calls(guidance, asks(times(steps))).sum())

  # Times that are listed are for one number of steps.
  listed = [len(settings['times']) - 1] if 'times' in settings else None
  steps = 1 if nfe is None else steps_for(sampler, cost, nfe, listed)
  return Plan(
    sampler=sampler,
    options=tuple(sorted(options.items())),
    times=times(steps),
    guidance=guidance,
    nfe=nfe,
  )


def steps_for(
  sampler: str,
  cost: Callable[[int], int],
  nfe: int,
  choices: Iterable[int] | None = None,
) -> int:
  """The number of steps that costs `nfe` network calls.

  Args:
    sampler: its name, for the error.
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
  nearest = ' and '.join(map(str, below + above))
  verb = 'are' if below and above else 'is'
  raise ValueError(
    f'nfe = {nfe} is not possible for {sampler}; the nearest {verb} {nearest}'
  )
