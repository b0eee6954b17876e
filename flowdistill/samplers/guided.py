"""Guidance while sampling, in an interval of time.

It leads away from the velocity of the same network without its condition, which
is classifier-free guidance, or from a weaker network's, which is autoguidance.
"""

import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import extrapolate
from flowdistill.flow.transport import expand
from flowdistill.samplers.sampler import AverageVelocity

Array = jax.Array
Guidance = float | Mapping[str, Any]
"""λ, or {'scale': λ, 'low': 0.0, 'high': 1.0, 'against': 'null'}."""
AGAINST, NULL = 'against', 'null'
SCALARS = {'guidance': 'scale', 'guidance_low': 'low', 'guidance_high': 'high'}
"""Scalar condition of a network -> the part of an `Interval` that it is."""

LARGEST = float(jnp.finfo(jnp.float32).max)


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
  """Parses what a user wrote; None where it has no effect (λ = 1).

  Raises:
    ValueError: for an unknown key, λ that is not finite, or times that do not
      rise within [0, 1].
  """
  if guidance is None:
    return None
  given = guidance if isinstance(guidance, Mapping) else {'scale': guidance}
  parts = {name: part for name, part in given.items() if name != AGAINST}
  known = set(parts) <= set(Interval._fields) and 'scale' in parts
  if not known or not all(map(_is_number, parts.values())):
    raise ValueError(
      f'guidance = {guidance!r} must be a number, or a dict like '
      "{'scale': 2.0, 'low': 0.0, 'high': 1.0}"
    )
  guided = Interval(**parts)
  if not abs(guided.scale) <= LARGEST:
    raise ValueError(f'guidance = {guidance!r} must have a finite scale')
  if not 0 <= guided.low <= guided.high <= 1:
    raise ValueError(f'guidance = {guidance!r} must have 0 <= low <= high <= 1')
  return None if guided.scale == 1 else guided


def against(
  guidance: Guidance | None, roles: Callable[[], Collection[str]]
) -> str:
  """Away from what guidance leads: 'null', or the role of another network.

  Args:
    guidance: what a user wrote.
    roles: gives those that can guide; only asked for a name.

  Raises:
    ValueError: for a name that is none of these.
  """
  if not isinstance(guidance, Mapping):
    return NULL
  if (name := guidance.get(AGAINST, NULL)) == NULL:
    return NULL
  choices = [NULL, *roles()]
  if name not in choices:
    raise ValueError(
      f'guidance = {guidance!r} must be against one of {choices}'
    )
  return name


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_scalars(
  guided: Interval | None, scalars: Collection[str]
) -> dict[str, float]:
  """Guidance as scalar conditions of a network; {} if it takes none of them.

  Args:
    guided: None is a scale of 1 at all times.
    scalars: the scalar conditions that the network takes.

  Raises:
    ValueError: if the guidance has a part that the network takes no scalar
      for, such as an interval where it takes the scale alone.
  """
  taken = {name: part for name, part in SCALARS.items() if name in scalars}
  chosen, default = guided or Interval(1.0), Interval(1.0)
  missing = [p for p in Interval._fields if p not in taken.values()]
  if taken and any(getattr(chosen, p) != getattr(default, p) for p in missing):
    wanted = ' and '.join(f'{p} = {getattr(default, p)}' for p in missing)
    raise ValueError(
      f'guidance = {chosen._asdict()} must have {wanted}: this network is '
      f'conditioned on {[*taken]} alone'
    )
  return {name: getattr(chosen, part) for name, part in taken.items()}


def calls(guided: Interval | None, times: Any) -> Any:
  """How many network calls a velocity takes at these times: 2 if guided."""
  return 1 + (0 * times if guided is None else guided.covers(times))


def guide(
  u: AverageVelocity, u_worse: AverageVelocity, interval: Interval
) -> AverageVelocity:
  """λ u + (1 − λ) u_worse inside the interval, u alone outside.

  Outside, u_worse is not called, unless another example of the batch is inside.
  """

  def guided(x: Array, t: Array, s: Array) -> Array:
    inside, better = interval.covers(t), u(x, t, s)
    worse = jax.lax.cond(inside.any(), lambda: u_worse(x, t, s), lambda: better)
    away = extrapolate(better, worse, interval.scale)
    return jnp.where(expand(inside, x), away, better)

  return guided
