"""How examples are drawn, as options of jobs say it."""

import dataclasses
from typing import Any

Spec = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sampling:
  """A sampler and all that it is told.

  Attributes:
    sampler: a name in SAMPLERS.
    nfe: calls of the network for one example; None for an adaptive sampler.
    options: of the sampler.
    grid: a name in GRIDS, or a dict with that and the grid's options.
    guidance: its scale, or a dict of scale, low and high; None for none.
  """

  sampler: str = 'flow_map'
  nfe: int | None = 4
  options: Spec = dataclasses.field(default_factory=dict)
  grid: str | Spec = 'uniform'
  guidance: float | Spec | None = None

  def how(self) -> Spec:
    """Options of the sampler, the grid and guidance, where they are set."""
    grid = {} if self.grid == Sampling.grid else {'grid': self.grid}
    told = {} if self.guidance is None else {'guidance': self.guidance}
    return {**self.options, **grid, **told}
