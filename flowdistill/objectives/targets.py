"""Targets of a regression: a velocity, guided or not, and frozen networks.

When training from scratch, the velocity is x1 − x0 of the sampled pair, whose
mean given x_t is v(x_t, t). When distilling, it is the teacher's, noiseless.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.objectives.roles import Roles

Array = jax.Array
TARGETS = ('ema', 'student')


def velocity(
  nets: Roles,
  ends: tuple[Array, Array],
  x_t: Array,
  t: Array,
  cond: Any,
  *,
  distil: bool,
) -> Array:
  """x1 − x0 of `ends` = (x0, x1), or with `distil` the teacher's v(x_t, t).

  Returns:
    v [b, ...], without gradient.
  """
  if distil:
    return jax.lax.stop_gradient(nets.teacher(x_t, t, cond))
  x0, x1 = ends
  return x1 - x0


def frozen(nets: Roles, target: str) -> Callable[..., Array]:
  """u(x_t, t, s, cond) of `nets.ema` or of the student, without gradient.

  Raises:
    ValueError: if `target` is neither 'ema' nor 'student'.
  """
  if target not in TARGETS:
    raise ValueError(f'target = {target!r} must be one of {TARGETS}')
  u = getattr(nets, target)
  return lambda *args: jax.lax.stop_gradient(u(*args))


def conditional(batch: Mapping[str, Any]) -> Array:
  """Whether each example has its condition: [b], False where it was dropped.

  `cond` may have any names. Where it equals `null` in every leaf it was dropped
  or was null to begin with: guidance does not change anything there.

  Raises:
    ValueError: if the batch has no condition at all.
  """
  leaves = jax.tree.leaves(batch['cond'])
  if not leaves:
    raise ValueError('guidance needs a condition, and this batch has none')
  differs = [
    jnp.any(jnp.reshape(a != b, (len(a), -1)), axis=1)
    for a, b in zip(leaves, jax.tree.leaves(batch['null']), strict=True)
  ]
  return functools.reduce(jnp.logical_or, differs)


def guided_rows(
  t: Array, batch: Mapping[str, Any], low: float, high: float
) -> Array:
  """Which examples to guide: [b], those with a condition at t in [low, high].

  Raises:
    ValueError: as `check_interval`.
  """
  check_interval(low, high)
  return (low <= t) & (t <= high) & conditional(batch)


def check_interval(low: float, high: float) -> None:
  """Checks the options guidance_low and guidance_high.

  Raises:
    ValueError: unless 0 <= low <= high <= 1.
  """
  if not 0 <= low <= 1:
    raise ValueError(f'guidance_low = {low} must lie in [0, 1]')
  if not low <= high <= 1:
    raise ValueError(
      f'guidance_high = {high} must lie in [{low}, 1]: from guidance_low to 1'
    )
