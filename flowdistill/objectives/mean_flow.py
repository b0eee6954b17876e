"""MeanFlow and its improvement: average velocities, from scratch.

Differentiated along the path, (t − s) u = ∫ v gives the identity of both,

  u(x_t, t, s) = v(x_t, t) − (t − s) du/dt,   du/dt = ∇ₓu · v + ∂_t u

`mean_flow` freezes its right side and regresses u on it. `improved_mean_flow`
moves the tangent to the left, where v no longer depends on the network:

  mean_flow            L = ‖u − sg[v − (t − s) du/dt]‖²
  improved_mean_flow   L = ‖V − v‖²,  V = u + (t − s) sg(du/dt)

and takes du/dt along the network's own u(x_t, t, t), not along x1 − x0, whose
noise would else be in the tangent. Both divide by sg(‖·‖² + c)^p. From scratch
that weight sees the noise of x1 − x0, so only at p = 0 is the exact map just
where the mean gradient vanishes; distilled, it is at every p.

Source: Geng et al., "Mean Flows for One-step Generative Modeling" (2025),
https://arxiv.org/abs/2505.13447, Algorithm 1, and "Improved Mean Flows: On the
Challenges of Fastforward Generative Models" (2025),
https://arxiv.org/abs/2512.02012, with their code,
https://github.com/Gsunshine/meanflow and
https://github.com/Lyy-iiis/imeanflow, where the text leaves a choice. Both
draw (t, s) from `mostly_instant`, with s = t in a share `instant` of 0.75
(MeanFlow, the default of both) and 0.5 (improved).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw
from flowdistill.flow.losses import adaptive, squared_norm
from flowdistill.flow.times import PairLaw, mostly_instant
from flowdistill.flow.transport import expand, interpolate
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.tangent import Loss
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
) -> Loss:
  """MeanFlow; with guidance inside the target one call samples with guidance.

    v ← ω v + κ u(x_t, t, t | c) + (1 − ω − κ) u(x_t, t, t | ∅)

  at t in [guidance_low, guidance_high], for examples that have a condition.
  Its fixed point is the flow guided by the scale ω / (1 − κ). Four forward
  passes; one more distilled, one for guidance, one more for κ > 0.

  Args:
    nets: uses `student`, and distilled `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`, whose velocity
      the student learns from the examples that lost their condition.
    key: of this step.
    step: unused, every objective takes it.
    times: law of (t, s); it needs some s = t, where u is the velocity.
    distil: whether v is that of `nets.teacher`.
    guidance: ω; 1 and κ = 0 is none.
    kappa: κ, in [0, 1).
    guidance_low: where guidance begins, in [0, 1].
    guidance_high: where it ends, in [guidance_low, 1].
    p: of the adaptive weight; 0 is none.
    c: of the adaptive weight, above 0.

  Returns:
    loss [b], and the mean of ‖·‖² before it is weighed.

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
  u, du_dt = jax.jvp(
    lambda x, t: nets.student(x, t, s, cond), (x_t, t), (v, jnp.ones_like(t))
  )
  target = jax.lax.stop_gradient(v - expand(t - s, x_t) * du_dt)
  return _weighed(u - target, p, c)


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
) -> Loss:
  """Improved MeanFlow; guidance is a condition, chosen when one samples.

  A scale ω and an interval [low, high] are drawn per example and told to the
  student as cond['guidance'], cond['guidance_low'] and cond['guidance_high'].
  With them it is its own better velocity:

    v ← v + (1 − 1/ω') (u(x_t, t, t | c, ω') − u(x_t, t, t | ∅, 1))

  where ω' is ω inside the interval and 1 outside; the tangent is that first u.
  Both are asked for guidance at all times, which says the same at one time;
  so are the examples with s = t. If u(c, ω) is v(c) + (1 − 1/ω)(u(c, ω) − v(∅))
  then u(c, ω) / ω = v(c) − (1 − 1/ω) v(∅): the fixed point is ω v(c) +
  (1 − ω) v(∅), classifier-free guidance.

  Five forward passes; with guidance six; one more distilled. The paper's
  second head, which predicts v by itself, is not here: this is its variant in
  which the velocity is u(x_t, t, t).

  Args:
    nets: uses `student`, and distilled `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`.
    key: of this step.
    step: unused, every objective takes it.
    times: law of (t, s); it needs some s = t, where u is the velocity.
    distil: whether v is that of `nets.teacher`.
    guidance: law of ω > 0, in the paper log-uniform over [1, 8]; None is none.
    middle: of the laws of the interval, low ~ U[0, middle] and
      high ~ U[middle, 1]; None guides at all times, and tells no interval.
    p: of the adaptive weight; 0 is none.
    c: of the adaptive weight, above 0.

  Returns:
    loss [b], and the mean of ‖·‖² before it is weighed.

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
    told, scale = _draw_guidance(key_g, t, s, guidance, middle)
    predicted, without = _guided_and_null(nets, batch, x_t, t, scale, told)
    share = jnp.where(conditional(batch), 1 - 1 / scale, 0)
    v = v + expand(share, v) * (predicted - without)
    cond = {**cond, **told}
  u, du_dt = jax.jvp(
    lambda x, t: nets.student(x, t, s, cond),
    (x_t, t),
    (predicted, jnp.ones_like(t)),
  )
  V = u + jax.lax.stop_gradient(expand(t - s, x_t) * du_dt)
  return _weighed(V - v, p, c)


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
  told: Mapping[str, Array],
) -> tuple[Array, Array]:
  """u(x_t, t, t | c, ω') and u(x_t, t, t | ∅, 1), frozen."""
  without = {'guidance': 1.0, 'guidance_low': 0.0, 'guidance_high': 1.0}
  always = {name: jnp.full_like(t, without[name]) for name in told}
  asked = (
    {**batch['cond'], **always, 'guidance': scale},
    {**batch['null'], **always},
  )
  guided, null = (nets.student(x_t, t, t, cond) for cond in asked)
  return jax.lax.stop_gradient(guided), jax.lax.stop_gradient(null)


def _draw_guidance(
  key: Array, t: Array, s: Array, law: ScaleLaw, middle: float | None
) -> tuple[dict[str, Array], Array]:
  """What the student is told, and the scale that holds at time t."""
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
  told = {'guidance': scale, 'guidance_low': low, 'guidance_high': high}
  return told, jnp.where((low <= t) & (t <= high), scale, 1)


def _weighed(residual: Array, p: float, c: float) -> Loss:
  loss = squared_norm(residual)
  return adaptive(loss, p=p, c=c), {'residual': jnp.mean(loss)}
