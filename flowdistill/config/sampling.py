"""How examples are drawn, as options of jobs."""

import dataclasses
from typing import Any

Spec = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sampling:
  """A sampler and its options.

  Attributes:
    sampler: a name in SAMPLERS.
    nfe: network calls for one example; None for an adaptive sampler.
    options: of the sampler.
    grid: a name in GRIDS, or a dict of that name and the grid's options; None
      is `evaluation.grid` of the run, uniform unless it was set or converted.
    guidance: its scale, or a dict of scale, low and high; None disables it.
  """

  sampler: str = 'flow_map'
  nfe: int | None = 4
  options: Spec = dataclasses.field(default_factory=dict)
  grid: str | Spec | None = None
  guidance: float | Spec | None = None

  def how(self) -> Spec:
    """Options of the sampler, the grid and guidance, if they are set."""
    grid = {} if self.grid is None else {'grid': self.grid}
    guidance = {} if self.guidance is None else {'guidance': self.guidance}
    return {**self.options, **grid, **guidance}
