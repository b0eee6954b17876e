"""MeanFlow and improved MeanFlow: average velocities, from scratch.

Differentiating (t − s) u = ∫ v along the path gives the identity of both,

  u(x_t, t, s) = v(x_t, t) − (t − s) du/dt,   du/dt = ∇ₓu · v + ∂_t u

`mean_flow` freezes its right side and regresses u on it. `improved_mean_flow`
moves the tangent to the left, so that the target v does not depend on the
network:

  mean_flow            L = ‖u − sg[v − (t − s) du/dt]‖²
  improved_mean_flow   L = ‖V − v‖²,  V = u + (t − s) sg(du/dt)

and takes du/dt along the network's own u(x_t, t, t), not along x1 − x0, whose
noise would otherwise enter the tangent. Both divide by sg(‖·‖² + c)^p. When
training from scratch that weight sees the noise of x1 − x0, so only for p = 0
does the mean gradient vanish at the exact map; when distilling, for every p.

Source: Geng et al., "Mean Flows for One-step Generative Modeling" (2025),
https://arxiv.org/abs/2505.13447, Algorithm 1, and "Improved Mean Flows: On the
Challenges of Fastforward Generative Models" (2025),
https://arxiv.org/abs/2512.02012, with their code,
https://github.com/Gsunshine/meanflow and
https://github.com/Lyy-iiis/imeanflow, where the text leaves a choice. Both
draw (t, s) from `mostly_instant`, with s = t for a fraction `instant` of 0.75
(MeanFlow, the default of both) and 0.5 (improved).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw
from flowdistill.flow.losses import Reduction, adaptive, total
from flowdistill.flow.tangent import Tangent, jvp
from flowdistill.flow.times import PairLaw, mostly_instant
from flowdistill.flow.transport import expand, interpolate
from flowdistill.objectives.regression import Loss
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.targets import conditional, guided_rows, velocity

Array = jax.Array


def mean_flow(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: PairLaw = mostly_instant,
  distil: bool = False,
  guidance: float = 1.0,
  kappa: float = 0.0,
  guidance_low: float = 0.0,
  guidance_high: float = 1.0,
  p: float = 1.0,
  c: float = 0.01,
  reduction: Reduction = total,
  tangent: Tangent = jvp,
) -> Loss:
  """MeanFlow; guidance is part of the target, so sampling needs one call.

    v ← ω v + κ u(x_t, t, t | c) + (1 − ω − κ) u(x_t, t, t | ∅)

  at t in [guidance_low, guidance_high], for examples that have a condition.
  Its fixed point is the flow guided by the scale ω / (1 − κ). Four forward
  passes; one more when distilling, one for guidance, one more for κ > 0.

  Args:
    nets: uses `student`, and with `distil` also `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`, whose velocity
      the student learns from the examples whose condition was dropped.
    key: random key of this step.
    step: unused; every objective takes it.
    times: distribution of (t, s); some s = t are needed, where u is the
      velocity.
    distil: whether v is the velocity of `nets.teacher`.
    guidance: ω; 1 with κ = 0 disables guidance.
    kappa: κ, in [0, 1).
    guidance_low: smallest guided t, in [0, 1].
    guidance_high: largest guided t, in [guidance_low, 1].
    p: exponent of the adaptive weight; 0 disables it.
    c: of the adaptive weight, above 0.
    reduction: of the squares over an example, the sum in paper and code; of the
      mean over n elements, c / n gives the same weights up to n^(p − 1).
    tangent: how du/dt is computed; see `flow/tangent.py`.

  Returns:
    loss [b], and the mean of ‖·‖² before weighting.

  Raises:
    ValueError: if an option is out of range, or guidance has no condition.
  """
  del step
  if not 0 <= kappa < 1:
    raise ValueError(f'kappa = {kappa} must lie in [0, 1)')
  x0, cond = batch['x0'], batch['cond']
  key_t, key_x = jax.random.split(key)
  t, s = times(key_t, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t = interpolate(x0, x1, t)
  v = velocity(nets, (x0, x1), x_t, t, cond, distil=distil)
  if guidance != 1 or kappa:
    guided = _guided(nets, batch, x_t, t, v, guidance, kappa)
    rows = guided_rows(t, batch, guidance_low, guidance_high)
    v = jnp.where(expand(rows, v), guided, v)
  u, du_dt = tangent(
    lambda x, t: nets.student(x, t, s, cond), (x_t, t), (v, jnp.ones_like(t))
  )
  target = jax.lax.stop_gradient(v - expand(t - s, x_t) * du_dt)
  return _weighted(u - target, p, c, reduction)


def improved_mean_flow(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: PairLaw = mostly_instant,
  distil: bool = False,
  guidance: ScaleLaw | None = None,
  middle: float | None = 0.5,
  p: float = 1.0,
  c: float = 0.01,
  reduction: Reduction = total,
  tangent: Tangent = jvp,
) -> Loss:
  """Improved MeanFlow; guidance is a condition, chosen when sampling.

  A scale ω and an interval [low, high] are drawn per example. The student is
  conditioned on them, as cond['guidance'], cond['guidance_low'] and
  cond['guidance_high'], and its own velocities make the guided target:

    v ← v + (1 − 1/ω') (u(x_t, t, t | c, ω') − u(x_t, t, t | ∅, 1))

  where ω' is ω inside the interval and 1 outside; the tangent is taken along
  the first u. Both are conditioned on the interval [0, 1], which is equivalent
  for a velocity, at a single time; so are the examples with s = t. From
  u(c, ω) = v(c) + (1 − 1/ω)(u(c, ω) − v(∅)) follows
  u(c, ω) / ω = v(c) − (1 − 1/ω) v(∅): the fixed point is ω v(c) + (1 − ω) v(∅),
  classifier-free guidance.

  Five forward passes; six with guidance; one more when distilling. The paper's
  second head, which predicts v separately, is not implemented: this is its
  variant in which the velocity is u(x_t, t, t).

  Args:
    nets: uses `student`, and with `distil` also `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`.
    key: random key of this step.
    step: unused; every objective takes it.
    times: distribution of (t, s); some s = t are needed, where u is the
      velocity.
    distil: whether v is the velocity of `nets.teacher`.
    guidance: distribution of ω > 0, in the paper log-uniform over [1, 8]; None
      disables guidance.
    middle: of the interval, low ~ U[0, middle] and high ~ U[middle, 1]; None
      guides at all times, without an interval among the conditions.
    p: exponent of the adaptive weight; 0 disables it.
    c: of the adaptive weight, above 0.
    reduction: of the squares over an example, the sum in paper and code; of the
      mean over n elements, c / n gives the same weights up to n^(p − 1).
    tangent: how du/dt is computed; see `flow/tangent.py`.

  Returns:
    loss [b], and the mean of ‖·‖² before weighting.

  Raises:
    ValueError: if an option is out of range, or guidance has no condition.
  """
  del step
  x0, cond = batch['x0'], batch['cond']
  key_t, key_x, key_g = jax.random.split(key, 3)
  t, s = times(key_t, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t = interpolate(x0, x1, t)
  v = velocity(nets, (x0, x1), x_t, t, cond, distil=distil)
  if guidance is None:
    predicted = jax.lax.stop_gradient(nets.student(x_t, t, t, cond))
  else:
    extra, scale = _draw_guidance(key_g, t, s, guidance, middle)
    predicted, without = _guided_and_null(nets, batch, x_t, t, scale, extra)
    share = jnp.where(conditional(batch), 1 - 1 / scale, 0)
    v = v + expand(share, v) * (predicted - without)
    cond = {**cond, **extra}
  u, du_dt = tangent(
    lambda x, t: nets.student(x, t, s, cond),
    (x_t, t),
    (predicted, jnp.ones_like(t)),
  )
  V = u + jax.lax.stop_gradient(expand(t - s, x_t) * du_dt)
  return _weighted(V - v, p, c, reduction)


def _guided(
  nets: Roles,
  batch: Mapping[str, Any],
  x_t: Array,
  t: Array,
  v: Array,
  omega: float,
  kappa: float,
) -> Array:
  """ω v + κ u(x_t, t, t | c) + (1 − ω − κ) u(x_t, t, t | ∅), frozen."""
  worse = nets.student(x_t, t, t, batch['null'])
  guided = omega * v + (1 - omega - kappa) * worse
  if kappa:
    guided += kappa * nets.student(x_t, t, t, batch['cond'])
  return jax.lax.stop_gradient(guided)


def _guided_and_null(
  nets: Roles,
  batch: Mapping[str, Any],
  x_t: Array,
  t: Array,
  scale: Array,
  extra: Mapping[str, Array],
) -> tuple[Array, Array]:
  """u(x_t, t, t | c, ω') and u(x_t, t, t | ∅, 1), frozen."""
  without = {'guidance': 1.0, 'guidance_low': 0.0, 'guidance_high': 1.0}
  always = {name: jnp.full_like(t, without[name]) for name in extra}
  conds = (
    {**batch['cond'], **always, 'guidance': scale},
    {**batch['null'], **always},
  )
  guided, null = (nets.student(x_t, t, t, cond) for cond in conds)
  return jax.lax.stop_gradient(guided), jax.lax.stop_gradient(null)


def _draw_guidance(
  key: Array, t: Array, s: Array, law: ScaleLaw, middle: float | None
) -> tuple[dict[str, Array], Array]:
  """Conditions for the student, and the scale that applies at time t."""
  key_scale, key_low, key_high = jax.random.split(key, 3)
  scale = law(key_scale, len(t)).astype(t.dtype)
  if middle is None:
    return {'guidance': scale}, scale
  if not 0 <= middle <= 1:
    raise ValueError(f'middle = {middle} must lie in [0, 1]')
  low, high = (
    jax.random.uniform(k, t.shape, t.dtype) for k in (key_low, key_high)
  )
  low = jnp.where(s == t, 0, middle * low)
  high = jnp.where(s == t, 1, middle + (1 - middle) * high)
  extra = {'guidance': scale, 'guidance_low': low, 'guidance_high': high}
  return extra, jnp.where((low <= t) & (t <= high), scale, 1)


def _weighted(
  residual: Array, p: float, c: float, reduction: Reduction
) -> Loss:
  loss = reduction(jnp.square(residual))
  return adaptive(loss, p=p, c=c), {'residual': jnp.mean(loss)}
