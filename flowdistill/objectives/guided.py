"""A teacher's velocity under guidance, and the condition of its student."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from flowdistill.flow.guidance import ScaleLaw, extrapolate
from flowdistill.flow.transport import expand
from flowdistill.objectives.roles import Roles

Array = jax.Array
AGAINST = ('weak', 'null')


def guided_teacher(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  guidance: ScaleLaw | None,
  against: str,
) -> tuple[Callable[[Array, Array], Array], dict[str, Array]]:
  """v = λ v_φ + (1 − λ) v_worse, with λ for each example.

  Args:
    nets: uses `teacher` (v_φ), and for autoguidance `weak`.
    batch: `x0` [b, ...] and `cond`; for classifier-free guidance also `null`.
    key: random key for λ.
    guidance: distribution of λ; None is v_φ alone.
    against: 'weak' for autoguidance by `nets.weak`, 'null' for classifier-free
      guidance by the teacher without its condition.

  Returns:
    v(x_t, t) without gradient, and the student's `cond`, which has λ as
    cond['guidance'] [b], so that it can be chosen when sampling.

  Raises:
    ValueError: if `against` is neither.
  """
  if against not in AGAINST:
    raise ValueError(f'against = {against!r} must be one of {AGAINST}')
  cond = batch['cond']
  if guidance is None:
    return lambda x_t, t: jax.lax.stop_gradient(
      nets.teacher(x_t, t, cond)
    ), cond
  scale = guidance(key, len(batch['x0']))

  def velocity(x_t: Array, t: Array) -> Array:
    if against == 'weak':
      worse = nets.weak(x_t, t, cond)
    else:
      worse = nets.teacher(x_t, t, batch['null'])
    v = extrapolate(nets.teacher(x_t, t, cond), worse, expand(scale, x_t))
    return jax.lax.stop_gradient(v)

  return velocity, {**cond, 'guidance': scale}
