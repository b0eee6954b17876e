"""How examples are drawn, as options of jobs."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from flowdistill.config.bind import ConfigError
from flowdistill.training.ema_profiles import power_name, sigma_rel_in

Spec = dict[str, Any]


def weights_of_ema(ema: Iterable[float]) -> tuple[str, ...]:
  """The weights that `--ema=0.05,0.1` stands for: 'power:0.05', 'power:0.1'.

  Raises:
    ConfigError: if no power EMA has such a width.
  """
  try:
    return tuple(power_name(sigma_rel) for sigma_rel in ema)
  except ValueError as error:
    text = str(error).replace('sigma_rel = ', 'ema=', 1)
    raise ConfigError(f'--{text}') from error


def plain_weights(weights: str) -> str:
  """Names of weights in one spelling: 'power:0.1' for 'power:0.10'.

  Raises:
    ConfigError: for 'power:' without a width that can be.
  """
  try:
    sigma_rel = sigma_rel_in(weights)
  except ValueError as error:
    raise ConfigError(f'--weights={weights}: {error}') from error
  return weights if sigma_rel is None else power_name(sigma_rel)


@dataclasses.dataclass(frozen=True)
class Sampling:
  """A sampler and its options.

  Attributes:
    sampler: a name in SAMPLERS or PUBLISHED.
    nfe: network calls for one example; None for an adaptive sampler.
    options: of the sampler.
    grid: a name in GRIDS, or a dict of that name and the grid's options; None
      is `evaluation.grid` of the run, uniform unless it was set or converted.
    guidance: its scale, or a dict of scale, low, high and against, the role of
      another network; None disables it.
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


@dataclasses.dataclass(frozen=True)
class Samplings:
  """Several ways of sampling: every combination of the lists.

  Attributes:
    sampler: names in SAMPLERS or PUBLISHED.
    nfe: network calls for one example; None is for the adaptive samplers.
    options: of the sampler, a dict for each of several ways.
    grid: as in `Sampling`.
    guidance: as in `Sampling`.
  """

  sampler: tuple[str, ...] = (Sampling.sampler,)
  nfe: tuple[int | None, ...] = (Sampling.nfe,)
  options: tuple[Spec, ...] = ()
  grid: tuple[str | Spec | None, ...] = (None,)
  guidance: tuple[float | Spec | None, ...] = (None,)

  def __post_init__(self) -> None:
    for name, values in vars(self).items():
      if isinstance(values, tuple):
        again = [value for i, value in enumerate(values) if value in values[:i]]
        if again:
          raise ConfigError(f'--{name} must not have {again[0]} twice')

  def each(self) -> list[Sampling]:
    """The combinations, by sampler, guidance, grid, options and then NFE."""
    options = self.options or ({},)
    lists = self.sampler, self.guidance, self.grid, options, self.nfe
    return [
      Sampling(sampler, nfe, how, grid, guidance)
      for sampler, guidance, grid, how, nfe in itertools.product(*lists)
    ]
