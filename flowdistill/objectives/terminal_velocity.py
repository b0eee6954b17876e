"""Terminal velocity matching: a jump ends with the velocity at its end.

With f(x_t, t, s) = x_t + (s − t) u(x_t, t, s), df/ds = u + (s − t) ∂u/∂s:

  L = ‖df/ds − sg u⁻(sg f, s, s)‖² + ‖u(x_s, s, s) − v‖²

u⁻ has EMA weights. Unlike in AYF-LMD, which has the same tangent, the gradient
is that of the square itself and flows through ∂u/∂s, and the velocity is learnt
by flow matching, the second term, alone.

Source: Zhou et al., "Terminal Velocity Matching" (2025),
https://arxiv.org/abs/2511.19797, section 3, with its code,
https://github.com/lumalabs/tvm.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw, extrapolate
from flowdistill.flow.losses import Reduction, total
from flowdistill.flow.tangent import Tangent, jvp
from flowdistill.flow.times import PairLaw, TimeLaw, interval
from flowdistill.flow.transport import expand, interpolate
from flowdistill.objectives.regression import Loss
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.targets import conditional, frozen, velocity

Array = jax.Array


def tvm(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: PairLaw = interval,
  flow_times: TimeLaw | None = None,
  distil: bool = False,
  target: str = 'ema',
  guidance: ScaleLaw | None = None,
  reduction: Reduction = total,
  tangent: Tangent = jvp,
) -> Loss:
  """Terminal velocity matching and flow matching, weighted equally.

  With guidance a scale ω is drawn per example, on which the student is
  conditioned as cond['guidance']; flow matching then regresses on
  ω v + (1 − ω) u⁻(x_s, s, s | ∅, 1), and both terms are divided by ω².
  Examples without a condition have ω = 1.

  Ten forward passes: six for the gradient through a tangent, three for flow
  matching, one for u⁻; one more when distilling, one more with guidance.

  Args:
    nets: uses `student`, with target 'ema' also `ema`, with `distil`
      `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`.
    key: random key of this step.
    step: unused; every objective takes it.
    times: distribution of (t, s). The code's is `interval`, but with s
      logit-normal (−0.4, 1), truncated at 1 − (t − s), instead of uniform.
    flow_times: distribution of the time of flow matching; None takes s, as in
      the paper's equation. Its code draws a time, logit-normal (−0.4, 1).
    distil: whether v is the velocity of `nets.teacher`.
    target: u⁻, 'ema' (in the code a separate one, of decay 0.99) or 'student'.
    guidance: distribution of ω > 0, in the paper fixed or uniform; None
      disables guidance.
    reduction: of the squares over an example: the sum in the paper, the mean in
      its code.
    tangent: how ∂u/∂s is computed; see `flow/tangent.py`.

  Returns:
    loss [b], and the means of both terms.

  Raises:
    ValueError: if `target` is neither of the two, or guidance has no condition.
  """
  del step
  u_frozen = frozen(nets, target)
  x0, cond = batch['x0'], batch['cond']
  key_t, key_r, key_x, key_g = jax.random.split(key, 4)
  t, s = times(key_t, len(x0))
  r = s if flow_times is None else flow_times(key_r, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t, x_r = interpolate(x0, x1, t), interpolate(x0, x1, r)
  v = velocity(nets, (x0, x1), x_r, r, cond, distil=distil)
  weight = jnp.ones_like(t)
  if guidance is not None:
    scale = guidance(key_g, len(x0)).astype(t.dtype)
    scale = jnp.where(conditional(batch), scale, 1)
    null = {**batch['null'], 'guidance': jnp.ones_like(t)}
    v = extrapolate(v, u_frozen(x_r, r, r, null), expand(scale, v))
    cond, weight = {**cond, 'guidance': scale}, scale**-2
  u, du_ds = tangent(
    lambda s: nets.student(x_t, t, s, cond), (s,), (jnp.ones_like(s),)
  )
  jump = expand(s - t, x_t)
  end = u_frozen(jax.lax.stop_gradient(x_t + jump * u), s, s, cond)
  terminal = weight * reduction(jnp.square(u + jump * du_ds - end))
  # At s = t the term would pull the student towards its own EMA.
  terminal = jnp.where(s < t, terminal, 0)
  velocity_error = nets.student(x_r, r, r, cond) - v
  flow = weight * reduction(jnp.square(velocity_error))
  metrics = {'terminal': jnp.mean(terminal), 'flow': jnp.mean(flow)}
  return terminal + flow, metrics
