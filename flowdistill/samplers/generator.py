"""A network with its parameters, as evaluators and users draw from it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowdistill.samplers.draw import Cond, Draw, Samples
from flowdistill.samplers.guided import Guidance, Interval, interval

TOLD = {'guidance': 'scale', 'guidance_low': 'low', 'guidance_high': 'high'}


@dataclasses.dataclass(frozen=True)
class Generator:
  """model(n, ...) -> `Samples`; the options are those of `Draw`.

  A network that takes the guidance scale as a condition is told it, which
  costs one call, and without guidance is told 1. Another is asked a second
  time, without its condition.

  Attributes:
    draw: the network.
    params: its parameters.
    to_null: condition -> the unconditional one, the same tree.
    scalars: the scalar conditions [b] that the network takes.
  """

  draw: Draw
  params: Any
  to_null: Callable[[Cond], Cond]
  scalars: tuple[str, ...]

  def __call__(
    self,
    n: int,
    *,
    cond: Cond | None = None,
    guidance: Guidance | None = None,
    **how: Any,
  ) -> Samples:
    """Draws examples 0 to n − 1 of a seed; see `Draw.__call__`."""
    conds = self._conditions(n, cond or {}, guidance)
    return self.draw(self.params, n, **conds, **how)

  def encode(
    self,
    x0: np.ndarray,
    *,
    cond: Cond | None = None,
    guidance: Guidance | None = None,
    **how: Any,
  ) -> Samples:
    """From data x0 [n, ...] to noise; see `Draw.encode`."""
    conds = self._conditions(len(x0), cond or {}, guidance)
    return self.draw.encode(self.params, x0, **conds, **how)

  def ask(
    self,
    x_t: np.ndarray,
    t: np.ndarray,
    s: np.ndarray,
    cond: Cond | None = None,
  ) -> np.ndarray:
    """u(x_t [n, ...], t [n], s [n], cond) [n, ...], and nothing else."""
    return self.draw.ask(self.params, x_t, t, s, cond)

  def _conditions(
    self, n: int, cond: Cond, guidance: Guidance | None
  ) -> Mapping[str, Any]:
    names = [name for name in TOLD if name in self.scalars]
    if names:
      made = interval(guidance) or Interval(1.0)
      untold = {'low', 'high'} - {TOLD[name] for name in names}
      if any(
        getattr(made, end) != getattr(Interval(1.0), end) for end in untold
      ):
        raise ValueError(
          f'guidance = {guidance!r} must be at all times: this network is told '
          f'{names} alone'
        )
      told = {name: getattr(made, TOLD[name]) for name in names}
      told = {k: np.full(n, v, np.float32) for k, v in told.items()}
      cond, guidance = {**told, **cond}, None
    return {'cond': cond, 'null': self.to_null(cond), 'guidance': guidance}
