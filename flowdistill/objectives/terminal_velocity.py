"""Terminal velocity matching: a jump ends with the velocity of where it ends.

With f(x_t, t, s) = x_t + (s − t) u(x_t, t, s), df/ds = u + (s − t) ∂u/∂s:

  L = ‖df/ds − sg u⁻(sg f, s, s)‖² + ‖u(x_s, s, s) − v‖²

u⁻ is the EMA. Unlike in AYF-LMD, which has this tangent, the gradient is that
of the square itself and goes through ∂u/∂s; and nothing but flow matching, the
second term, teaches the velocity.

Source: Zhou et al., "Terminal Velocity Matching" (2025),
https://arxiv.org/abs/2511.19797, section 3, with its code,
https://github.com/lumalabs/tvm.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw, extrapolate
from flowdistill.flow.losses import squared_norm
from flowdistill.flow.times import PairLaw, TimeLaw, interval
from flowdistill.flow.transport import expand, interpolate
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.tangent import Loss
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
) -> Loss:
  """Terminal velocity matching and flow matching, one to one.

  With guidance a scale ω is drawn per example and told to the student as
  cond['guidance']; flow matching then regresses on
  ω v + (1 − ω) u⁻(x_s, s, s | ∅, 1), and both terms are divided by ω².
  Examples without a condition have ω = 1.

  Ten forward passes: six for the gradient through a tangent, three for flow
  matching, one for u⁻; distilled one more, with guidance one more.

  Args:
    nets: uses `student`, with target 'ema' also `ema`, distilled `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`.
    key: of this step.
    step: unused, every objective takes it.
    times: law of (t, s). The code's is `interval`, but with s logit-normal
      (−0.4, 1), cut off at 1 − (t − s), where `interval` has it uniform.
    flow_times: law of the time of flow matching; None takes s, as the paper's
      equation does, and its code a time of its own, logit-normal (−0.4, 1).
    distil: whether v is that of `nets.teacher`.
    target: u⁻, 'ema' (the code has one of its own, of decay 0.99) or 'student'.
    guidance: law of ω > 0, in the paper fixed or uniform; None is none.

  Returns:
    loss [b], and the means of both terms.

  Raises:
    ValueError: if `target` is neither, or guidance has no condition.
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
  u, du_ds = jax.jvp(
    lambda s: nets.student(x_t, t, s, cond), (s,), (jnp.ones_like(s),)
  )
  jump = expand(s - t, x_t)
  end = u_frozen(jax.lax.stop_gradient(x_t + jump * u), s, s, cond)
  terminal = weight * squared_norm(u + jump * du_ds - end)
  terminal = jnp.where(
    s < t, terminal, 0
  )  # At s = t it is EMA against student.
  flow = weight * squared_norm(nets.student(x_r, r, r, cond) - v)
  metrics = {'terminal': jnp.mean(terminal), 'flow': jnp.mean(flow)}
  return terminal + flow, metrics
