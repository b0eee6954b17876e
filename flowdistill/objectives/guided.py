"""A teacher's velocity under guidance, and the condition of its student."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw, extrapolate
from flowdistill.flow.transport import expand
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.targets import check_interval

Array = jax.Array
AGAINST = ('weak', 'null')


def guided_teacher(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  guidance: ScaleLaw | None,
  against: str,
  low: float = 0.0,
  high: float = 1.0,
) -> tuple[Callable[[Array, Array], Array], dict[str, Array]]:
  """v = λ v_φ + (1 − λ) v_worse, with λ for each example.

  Args:
    nets: uses `teacher` (v_φ), and for autoguidance `weak`.
    batch: `x0` [b, ...] and `cond`; for classifier-free guidance also `null`.
    key: random key for λ.
    guidance: distribution of λ; None is v_φ alone.
    against: 'weak' for autoguidance by `nets.weak`, 'null' for classifier-free
      guidance by the teacher without its condition.
    low: smallest guided t.
    high: largest guided t; λ is 1 at other times.

  Returns:
    v(x_t, t) without gradient, and the student's `cond`, which has λ as
    cond['guidance'] [b], so that it can be chosen when sampling.

  Raises:
    ValueError: if `against` is neither, or unless 0 <= low <= high <= 1.
  """
  if against not in AGAINST:
    raise ValueError(f'against = {against!r} must be one of {AGAINST}')
  check_interval(low, high)
  cond = batch['cond']
  if guidance is None:
    if (low, high) != (0, 1):
      raise ValueError(
        f'guidance_low = {low} and guidance_high = {high} have no effect: '
        'guidance = None'
      )
    return lambda x_t, t: jax.lax.stop_gradient(
      nets.teacher(x_t, t, cond)
    ), cond
  scale = guidance(key, len(batch['x0']))

  def velocity(x_t: Array, t: Array) -> Array:
    if against == 'weak':
      worse = nets.weak(x_t, t, cond)
    else:
      worse = nets.teacher(x_t, t, batch['null'])
    at_t = jnp.where((low <= t) & (t <= high), scale, 1.0)
    v = extrapolate(nets.teacher(x_t, t, cond), worse, expand(at_t, x_t))
    return jax.lax.stop_gradient(v)

  return velocity, {**cond, 'guidance': scale}
