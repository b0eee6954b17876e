"""RCGM's target: one jump ends where a short step and N jumps end.

With F(x_t, t, s) the average velocity, v the instantaneous one, f a jump:

  x_m = x_t − δ v, followed by N equal jumps, from t − δ to s, which end at x_N
  g = (x_N − f(x_t, t, s)) / δ      where t − s >= δ
  g = F − v                         where t − s < δ, and for N = 0
  L = d(F, sg(F − clip(g)))

g is ((t − s) F − I) / δ − v of the paper, whose I, the integral of the N jumps,
is x_m − x_N. The exact flow map has g = O(δ). For N = 1 and δ → 0 it is
MeanFlow's tangent, (F − v) + (t − s) dF/dt; at δ > 0 the difference is part of
the method, so there is no option `tangent`.

Source: Sun & Lin, "Any-step Generation via N-th Order Recursive Consistent
Velocity Field Estimation" (2025), https://openreview.net/forum?id=GnawtLKGkP,
and the code of TwinFlow (2025), https://arxiv.org/abs/2512.05150, whose
1 / (t − s) is NaN at s = t.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.losses import Reduction, barron
from flowdistill.flow.transport import (
  AverageVelocity,
  Velocity,
  expand,
  flow_map,
  velocity_of,
)
from flowdistill.objectives import targets
from flowdistill.objectives.roles import Roles

Array = jax.Array
LOSSES = {'barron': barron, 'l2': lambda square, c: square}
TARGETS = (*targets.TARGETS, 'frozen')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recursion:
  """The target of F. The options are documented in `rcgm`.

  Attributes:
    data_free: in the enhanced range v = v_u + ratio (v_c − v_u), without
      x1 − x0, so that no images are needed.

  Raises:
    ValueError: if an option is out of range or has no effect.
  """

  order: int
  delta: float
  clip: float | None
  enhanced_ratio: float
  enhanced_range: tuple[float, ...]
  target: str
  distil: bool
  data_free: bool = False

  def __post_init__(self) -> None:
    _check_recursion(self.order, self.delta, self.clip)
    _check_enhancement(self.enhanced_ratio, self.enhanced_range)
    _check_target(self.target, self.order, self.enhanced_ratio)
    if self.data_free and self.target != 'frozen':
      raise ValueError(
        f"data_free = True must go with target = 'frozen', and it is "
        f'{self.target!r}: the model would learn from itself alone'
      )

  def velocity(
    self,
    nets: Roles,
    batch: Mapping[str, Any],
    ends: tuple[Array, Array],
    x_t: Array,
    t: Array,
  ) -> Array:
    """v [b, ...]; `ends` are x0 and x1.

    Raises:
      ValueError: if v is enhanced and there are no conditions.
    """
    ratio, cond = self.enhanced_ratio, batch['cond']
    v = targets.velocity(nets, ends, x_t, t, cond, distil=self.distil)
    if not ratio:
      return v
    _check_conditions(ratio, cond)
    guide = self._guide(nets)
    same = self.distil and self.target == 'frozen'
    v_c = v if same else guide(x_t, t, cond)
    v_u = guide(x_t, t, batch['null'])
    low, high = self.enhanced_range
    inside = expand((low < t) & (t < high), x_t)
    base = v_u if self.data_free else v
    return jnp.where(inside, base + ratio * (v_c - v_u), v)

  def residual(
    self,
    nets: Roles,
    F: Array,
    v: Array,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Any,
  ) -> Array:
    """g [b, ...], clipped unless it is that of flow matching (N = 0).

    Args:
      nets: see `rcgm`.
      F: F(x_t, t, s) [b, ...].
      v: as `velocity` returns it.
      x_t: [b, ...].
      t: [b].
      s: [b], at most t.
      cond: condition of the jumps.
    """
    if not self.order:
      return F - v
    gap = t - s
    h = jnp.minimum(self.delta, gap)  # δ, but no further than s
    x_m = x_t - expand(h, x_t) * v
    x_n = _jumps(self._jumper(nets), x_m, t - h, s, cond, self.order)
    apart = x_n - (x_t - expand(gap, x_t) * F)
    g = jnp.where(expand(gap < self.delta, x_t), F - v, apart / self.delta)
    return g if self.clip is None else jnp.clip(g, -self.clip, self.clip)

  def _jumper(self, nets: Roles) -> AverageVelocity:
    """A frozen teacher does not take s: the student makes the jumps."""
    jumper = 'student' if self.target == 'frozen' else self.target
    return targets.frozen(nets, jumper)

  def _guide(self, nets: Roles) -> Velocity:
    if self.target == 'frozen':
      return nets.teacher
    return velocity_of(self._jumper(nets))


def regress(
  F: Array, g: Array, loss: str, c: float, reduction: Reduction
) -> Array:
  """d(F, sg(F − g)) [b], with d a function of its reduced squares.

  Raises:
    ValueError: if there is no such loss, or `c` is out of range.
  """
  if loss not in LOSSES:
    raise ValueError(f'loss = {loss!r} must be one of {tuple(LOSSES)}')
  squares = jnp.square(F - jax.lax.stop_gradient(F - g))
  return LOSSES[loss](reduction(squares), c=c)


def _jumps(
  u: AverageVelocity, x: Array, t: Array, s: Array, cond: Any, n: int
) -> Array:
  """The end of n equal jumps from time t to time s, for a frozen u."""

  def jump(x: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
    return flow_map(u, x, *ends, cond), None

  times = jnp.linspace(t, s, n + 1)
  return jax.lax.scan(jump, x, (times[:-1], times[1:]))[0]


def _check_recursion(order: int, delta: float, clip: float | None) -> None:
  if order < 0:
    raise ValueError(f'order = {order} must be at least 0')
  if not delta > 0:
    raise ValueError(f'delta = {delta} must be above 0')
  if clip is not None and not clip > 0:
    raise ValueError(f'clip = {clip} must be above 0, or None for no clip')


def _check_enhancement(ratio: float, between: tuple[float, ...]) -> None:
  if not ratio >= 0:
    raise ValueError(f'enhanced_ratio = {ratio} must be at least 0')
  if len(between) != 2 or not between[0] < between[1]:
    raise ValueError(
      f'enhanced_range = {between} must be two numbers, the first the smaller'
    )


def _check_conditions(ratio: float, cond: Any) -> None:
  if not jax.tree.leaves(cond):
    raise ValueError(
      f'enhanced_ratio = {ratio} must be 0: this data set has no conditions'
    )


def _check_target(target: str, order: int, ratio: float) -> None:
  if target not in TARGETS:
    raise ValueError(f'target = {target!r} must be one of {TARGETS}')
  if target == 'frozen' and not ratio:
    raise ValueError(
      "target = 'frozen' must go with an enhanced_ratio above 0: it is asked "
      'for nothing else'
    )
  if target == 'ema' and not (order or ratio):
    raise ValueError(
      "target = 'ema' must go with an order or an enhanced_ratio above 0: it "
      'is asked for nothing else'
    )
