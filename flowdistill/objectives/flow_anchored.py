"""Flow-anchored consistency: a jump to the data, anchored by the velocity.

The anchor is flow matching, L_FM, at u(x_t, t, t); the jump, L_CM, is
MeanFlow's at s = 0, with u = u(x_t, t, 0) and its derivative along v:

  L_FM = ‖u(x_t, t, t) − v‖²/d + (1 − cos∠(u(x_t, t, t), v))
  g = u − v + t du/dt,  α(t) = 1 − (1 − t)^p
  L_CM = β(t) e / sg(e + c)^q,  e = ‖u − sg(u − α(t) clip g)‖²/d,
  β(t) = sin(π t / 2)

with d the number of elements (see `reduction`), the angle over the last axis.

Source: Peng et al., "FACM: Flow-Anchored Consistency Models" (2025),
https://arxiv.org/abs/2507.03738, with its code,
https://github.com/ali-vilab/FACM, in the variant for networks with two times;
there t = 1 is data.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import extrapolate
from flowdistill.flow.losses import Reduction, adaptive, mean
from flowdistill.flow.tangent import Tangent, jvp
from flowdistill.flow.times import TimeLaw, logit_normal
from flowdistill.flow.transport import expand, interpolate
from flowdistill.objectives.regression import Loss
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.targets import guided_rows, velocity

Array = jax.Array


def facm(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: TimeLaw = logit_normal,
  distil: bool = False,
  guidance: float = 1.0,
  guidance_low: float = 0.0,
  guidance_high: float = 1.0,
  cosine: float = 1.0,
  p: float | None = 0.5,
  clip: float | None = 1.0,
  q: float = 0.5,
  c: float = 1e-3,
  beta: float = 1.0,
  reduction: Reduction = mean,
  tangent: Tangent = jvp,
) -> Loss:
  """Anchor and consistency, weighted equally.

  Seven forward passes, eight when distilling, one more with guidance ω, which
  sets v ← ω v + (1 − ω) v(x_t, t | ∅) for examples with a condition at t in
  [guidance_low, guidance_high]. v(∅) is the teacher's when distilling, else the
  student's own u(x_t, t, t | ∅).

  When training from scratch, the angle, the clip and the weight by e see the
  noise of x1 − x0. Only without them (cosine 0, clip None, q 0) does the mean
  gradient vanish at the exact map. The paper's figures are for distillation.

  Args:
    nets: uses `student`, and with `distil` also `teacher`.
    batch: `x0` [b, ..., channels] and `cond`; for guidance also `null`.
    key: random key of this step.
    step: unused; every objective takes it.
    times: distribution of t. The code has t = 2/π atan σ with
      ln σ ~ N(−0.8, 1.6²), or `logit_normal` with that mean and std.
    distil: whether v is the velocity of `nets.teacher`.
    guidance: ω; 1 disables it, the code has 1.75.
    guidance_low: smallest guided t, in [0, 1].
    guidance_high: largest guided t, in [guidance_low, 1]; the code has 0.875.
    cosine: weight of the angle in the anchor; 0 disables it.
    p: exponent of α(t), above 0; None is α = 1.
    clip: bound of |g|, elementwise, above 0; None disables it.
    q: exponent of the weight by e; 0 disables it.
    c: of the weight by e, above 0.
    beta: power of β(t); 0 weights all times equally.
    reduction: of the squares over an example, in L_FM and e: the mean in the
      code. Of the sum over n elements, n c gives the same weights of e up to
      n^(1 − q); the angle is always a mean, so n `cosine` keeps its share.
    tangent: how du/dt is computed; see `flow/tangent.py`.

  Returns:
    loss [b], and the means of both terms.

  Raises:
    ValueError: if an option is out of range, or guidance has no condition.
  """
  del step
  _check(cosine, p, clip)
  x0, cond = batch['x0'], batch['cond']
  key_t, key_x = jax.random.split(key)
  t = times(key_t, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t = interpolate(x0, x1, t)
  v = velocity(nets, (x0, x1), x_t, t, cond, distil=distil)
  if guidance != 1:
    rows = guided_rows(t, batch, guidance_low, guidance_high)
    worse = _unconditional(nets, x_t, t, batch['null'], distil)
    scale = jnp.where(rows, guidance, 1)
    v = extrapolate(v, worse, expand(scale, v))
  anchor = _anchor(nets.student(x_t, t, t, cond), v, cosine, reduction)
  u, du_dt = tangent(
    lambda x, t: nets.student(x, t, jnp.zeros_like(t), cond),
    (x_t, t),
    (v, jnp.ones_like(t)),
  )
  g = u - v + expand(t, x_t) * du_dt
  jump = adaptive(reduction(_squares(u, g, t, p, clip)), p=q, c=c)
  if beta:
    jump *= jnp.sin(jnp.pi * t / 2) ** beta
  return anchor + jump, {'anchor': jnp.mean(anchor), 'jump': jnp.mean(jump)}


def _unconditional(
  nets: Roles, x_t: Array, t: Array, null: Any, distil: bool
) -> Array:
  v = nets.teacher(x_t, t, null) if distil else nets.student(x_t, t, t, null)
  return jax.lax.stop_gradient(v)


def _anchor(u: Array, v: Array, cosine: float, reduction: Reduction) -> Array:
  """L_FM; the angle with a zero vector counts as 90°, without gradient."""
  loss = reduction(jnp.square(u - v))
  if not cosine:
    return loss
  squares = jnp.sum(u**2, -1) * jnp.sum(v**2, -1)
  still = squares == 0
  norms = jnp.sqrt(jnp.where(still, 1, squares))
  cos = jnp.where(still, 0, jnp.sum(u * v, -1) / norms)
  return loss + cosine * (1 - jnp.mean(cos, axis=tuple(range(1, cos.ndim))))


def _squares(
  u: Array, g: Array, t: Array, p: float | None, clip: float | None
) -> Array:
  """The squares of e, from u to its target u − α(t) clip g."""
  g = g if clip is None else jnp.clip(g, -clip, clip)
  if p is not None:
    g = expand(1 - (1 - t) ** p, g) * g
  return jnp.square(u - jax.lax.stop_gradient(u - g))


def _check(cosine: float, p: float | None, clip: float | None) -> None:
  if cosine < 0:
    raise ValueError(f'cosine = {cosine} must be at least 0')
  for name, value in (('p', p), ('clip', clip)):
    if value is not None and not value > 0:
      raise ValueError(
        f'{name} = {value} must be above 0, or None to disable it'
      )
