"""Classifier-free guidance while sampling, in an interval of time."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import extrapolate
from flowdistill.flow.transport import expand
from flowdistill.samplers.sampler import AverageVelocity

Array = jax.Array
Guidance = float | Mapping[str, float]
"""λ, or {'scale': λ, 'low': 0.0, 'high': 1.0}."""


class Interval(NamedTuple):
  """Guidance by λ at the times low <= t <= high.

  Source: Kynkäänniemi et al., "Applying Guidance in a Limited Interval" (2024),
  https://arxiv.org/abs/2404.07724.
  """

  scale: Any
  low: Any = 0.0
  high: Any = 1.0

  def covers(self, times: Any) -> Any:
    """Whether there is guidance at these times."""
    return (self.low <= times) & (times <= self.high)


def interval(guidance: Guidance | None) -> Interval | None:
  """What the user says as an interval, None where it has no effect (λ = 1).

  Raises:
    ValueError: for an unknown key, λ that is not finite, or times that do not
      rise within [0, 1].
  """
  if guidance is None:
    return None
  spec = guidance if isinstance(guidance, Mapping) else {'scale': guidance}
  right = set(spec) <= set(Interval._fields) and 'scale' in spec
  if not right or not all(type(v) in (int, float) for v in spec.values()):
    raise ValueError(
      f'guidance = {guidance!r} must be a number, or a dict like '
      "{'scale': 2.0, 'low': 0.0, 'high': 1.0}"
    )
  made = Interval(**spec)
  if not -float('inf') < made.scale < float('inf'):
    raise ValueError(f'guidance = {guidance!r} must have a finite scale')
  if not 0 <= made.low <= made.high <= 1:
    raise ValueError(f'guidance = {guidance!r} must have 0 <= low <= high <= 1')
  return None if made.scale == 1 else made


def calls(made: Interval | None, times: Any) -> Any:
  """How many network calls it is to ask at these times: 1, or 2 if guided."""
  return 1 + (0 * times if made is None else made.covers(times))


def guide(
  u: AverageVelocity, u_null: AverageVelocity, made: Interval
) -> AverageVelocity:
  """λ u + (1 − λ) u_null inside the interval, u alone outside.

  Outside, u_null is not asked, unless another example of the batch is inside.
  """

  def guided(x: Array, t: Array, s: Array) -> Array:
    inside, better = made.covers(t), u(x, t, s)
    worse = jax.lax.cond(inside.any(), lambda: u_null(x, t, s), lambda: better)
    away = extrapolate(better, worse, made.scale)
    return jnp.where(expand(inside, x), away, better)

  return guided
