"""Consistency models: every point of a path is mapped to the same data.

f(x_t, t) = x_t − t u(x_t, t, 0), which is x_0 at t = 0 by construction.

`ect` compares two times whose gap shrinks during training, `scm` takes the
limit of a vanishing gap, on TrigFlow's path. When training from scratch, both
use the velocity x1 − x0 of the sampled pair; when distilling, the teacher's.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow import trigonometric as trig
from flowdistill.flow.losses import Reduction, total
from flowdistill.flow.tangent import Tangent, jvp
from flowdistill.flow.times import TimeLaw, logit_normal
from flowdistill.flow.transport import (
  expand,
  flow_map,
  interpolate,
  x0_from_velocity,
  x1_from_velocity,
)
from flowdistill.flow.weighting import Weight, uniform
from flowdistill.objectives.regression import Loss, regress_on_tangent, warm_up
from flowdistill.objectives.roles import Roles

Array = jax.Array


def ect(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: TimeLaw = logit_normal,
  weight: Weight = uniform,
  distil: bool = False,
  q: float = 2.0,
  double_steps: int = 10_000,
  k: float = 8.0,
  b: float = 1.0,
  c: float | None = 0.06,
  reduction: Reduction = total,
) -> Loss:
  """Easy consistency tuning: the gap between two times shrinks in stages.

  With σ = t / (1 − t) the noise level, stage a = 1 + ⌊step / double_steps⌋:

    σ_r = σ_t max(0, 1 − (1 + k sigmoid(−b σ_t)) / q^a)
    L = w(t, r) [√(‖f(x_t, t) − sg f(x_r, r)‖² + c²) − c] / (σ_t − σ_r)

  x_r has the same data and noise as x_t; when distilling, it is the end of the
  teacher's Euler step from x_t. Four forward passes, five when distilling.

  Source: Geng et al., "Consistency Models Made Easy" (2024),
  https://arxiv.org/abs/2406.14548, sections 3.2 and 3.3, where
  ln σ ~ N(−1.1, 2²): `logit_normal` with mean −1.1 and std 2.

  Args:
    nets: uses `student`, and with `distil` also `teacher`.
    batch: `x0` [b, ...] and `cond`.
    key: random key of this step.
    step: training step of this stage, for the curriculum.
    times: distribution of t.
    weight: w(t, r), in addition to the division by the gap.
    distil: whether x_r comes from `nets.teacher`.
    q: above 1, factor by which the gap shrinks from stage to stage.
    double_steps: d, length of a stage in steps, at least 1.
    k: at least 0, how much wider the gap is at low noise.
    b: noise levels σ much below 1 / b are low.
    c: of the pseudo-Huber loss, above 0; None takes the squared norm instead.
      The published code also has c = 0, the norm, whose gradient at 0 is NaN.
    reduction: of the squares over an example, the sum in paper and code; of the
      mean over n elements, c / √n gives the same loss up to 1 / √n.

  Returns:
    loss [b], and the mean of r / t.

  Raises:
    ValueError: if an option is out of range.
  """
  _check_curriculum(q, double_steps, k, c)
  x0, cond = batch['x0'], batch['cond']
  key_t, key_x = jax.random.split(key)
  t = times(key_t, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t = interpolate(x0, x1, t)
  stage = 1 + jnp.asarray(step) // double_steps
  r, gap = _nearer(t, q ** -stage.astype(t.dtype), k, b)
  if distil:
    x0, x1 = _ends(nets, x_t, t, cond)
  target = _to_data(nets, interpolate(x0, x1, r), r, cond)
  loss = reduction(
    jnp.square(_to_data(nets, x_t, t, cond) - jax.lax.stop_gradient(target))
  )
  if c is not None:
    loss = jnp.sqrt(loss + c**2) - c
  return weight(t, r) * loss / gap, {'time_ratio': jnp.mean(r / t)}


def scm(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: TimeLaw = logit_normal,
  weight: Weight = uniform,
  distil: bool = False,
  std: float = 0.5,
  max_r: float = 1.0,
  warmup_steps: int = 10_000,
  c: float | None = 0.1,
  reduction: Reduction = total,
  tangent: Tangent = jvp,
) -> Loss:
  """Continuous-time consistency on TrigFlow's path, x_τ = cos τ x0 + sin τ z.

    g = −cos²τ (σd F − dx/dτ) − r cos τ sin τ (x_τ + σd dF/dτ)
    g ← g / (‖g‖ + c),  L = w(t, 0) ‖F − sg(F + g)‖²

  dx/dτ = cos τ z − sin τ x0 for the sampled pair; when distilling (sCD), for
  the teacher's x̂0 and ẑ. F is computed from u by `flow/trigonometric.py`. The
  paper's weight 1 / (σd tan τ) is part of g; its learnt adaptive weight is not
  implemented. Four forward passes, five when distilling.

  Source: Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time
  Consistency Models" (2024), https://arxiv.org/abs/2410.11081, eq. 8 and
  Algorithm 1, where σd tan τ = t / (1 − t) is log-normal (−1, 1.4²):
  `logit_normal` with mean −1 and std 1.4.

  Args:
    nets: uses `student`, and with `distil` also `teacher`.
    batch: `x0` [b, ...] and `cond`.
    key: random key of this step.
    step: training step of this stage, for the warm-up of r.
    times: distribution of t on the linear path.
    weight: w(t, 0).
    distil: whether dx/dτ comes from `nets.teacher`.
    std: σd, the standard deviation of the data, above 0.
    max_r: final value of r, in [0, 1]; 1 is the exact condition.
    warmup_steps: H; r = min(max_r, step / H). 0 starts at max_r.
    c: of the tangent normalisation; None disables it.
    reduction: of the squares over an example: the mean in the paper, which
      divides by the number of elements, the sum in the code of rCM; ‖g‖ is
      always the root of a sum.
    tangent: how dF/dτ is computed; see `flow/tangent.py`.

  Returns:
    loss [b], and the means of ‖g‖ before normalisation and of r.

  Raises:
    ValueError: if an option is out of range.
  """
  if not std > 0:
    raise ValueError(f'std = {std} must be above 0')
  x0, cond = batch['x0'], batch['cond']
  key_t, key_x = jax.random.split(key)
  t = times(key_t, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t, angle = interpolate(x0, x1, t), trig.angle_of(t, std)
  if distil:
    x0, x1 = _ends(nets, x_t, t, cond)
  cos, sin = (expand(f(angle), x_t) for f in (jnp.cos, jnp.sin))
  x = trig.to_trigonometric(x_t, t, std)
  dx = cos * std * x1 - sin * x0
  r = warm_up(step, max_r, warmup_steps)

  def network(x: Array, angle: Array) -> Array:
    s, linear = trig.linear_time(angle, std), trig.to_linear(x, angle, std)
    u = nets.student(linear, s, jnp.zeros_like(s), cond)
    return trig.trigonometric_network(x, angle, u, std)

  # As in the paper the direction is scaled, not dF/dτ, which may be large.
  direction = (cos * sin * dx, jnp.cos(angle) * jnp.sin(angle))
  F, dF = tangent(network, (x, angle), direction)
  g = -(cos**2) * (std * F - dx) - r * (cos * sin * x + std * dF)
  return regress_on_tangent(
    F, -g, weight(t, jnp.zeros_like(t)), c, r, reduction
  )


def _ends(nets: Roles, x_t: Array, t: Array, cond: Any) -> tuple[Array, Array]:
  """x̂0 and x̂1: the ends of the line through x_t along the teacher's v."""
  v = jax.lax.stop_gradient(nets.teacher(x_t, t, cond))
  return x0_from_velocity(x_t, v, t), x1_from_velocity(x_t, v, t)


def _to_data(nets: Roles, x_t: Array, t: Array, cond: Any) -> Array:
  """f(x_t, t), the jump to time 0."""
  return flow_map(nets.student, x_t, t, jnp.zeros_like(t), cond)


def _nearer(t: Array, share: Array, k: float, b: float) -> tuple[Array, Array]:
  """r < t, and σ_t − σ_r, the gap between their noise levels."""
  sigma = t / (1 - t)
  gap = sigma * jnp.minimum(1.0, share * (1 + k * jax.nn.sigmoid(-b * sigma)))
  return (sigma - gap) / (1 + sigma - gap), gap


def _check_curriculum(
  q: float, double_steps: int, k: float, c: float | None
) -> None:
  if not q > 1:
    raise ValueError(f'q = {q} must be above 1')
  if double_steps < 1:
    raise ValueError(f'double_steps = {double_steps} must be at least 1')
  if k < 0:
    raise ValueError(f'k = {k} must be at least 0')
  if c is not None and not c > 0:
    raise ValueError(f'c = {c} must be above 0, or None for the square')
