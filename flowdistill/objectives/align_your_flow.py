"""Align Your Flow: distil a velocity into a flow map, by two objectives.

With f(x_t, t, s) = x_t + (s − t) F(x_t, t, s) and the teacher's velocity v_φ,
both regress F on a frozen target, a tangent g away:  L = ‖F − sg(F − g)‖².

  EMD, at the start of the jump:  g = (F − v_φ(x_t, t)) + r (t − s) dF/dt,
    dF/dt = ∇ₓF · v_φ + ∂_t F
  LMD, at its end:                g = (F − v_φ(f, s)) + r (s − t) ∂F/∂s

At r = 1 the exact flow map has g = 0. At r < 1 a regulariser of straightness
remains, ‖F − v_φ‖².

Source: Sabour, Fidler, Kreis, "Align Your Flow: Scaling Continuous-Time Flow
Map Distillation" (2025), https://arxiv.org/abs/2506.14603, theorem 3.2 and
Algorithm 1.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw
from flowdistill.flow.losses import Reduction, total
from flowdistill.flow.tangent import Tangent, jvp
from flowdistill.flow.times import PairLaw, interval
from flowdistill.flow.transport import expand, interpolate
from flowdistill.flow.weighting import Weight, uniform
from flowdistill.objectives.guided import guided_teacher
from flowdistill.objectives.regression import Loss, regress_on_tangent, warm_up
from flowdistill.objectives.roles import Roles

Array = jax.Array


def ayf_emd(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: PairLaw = interval,
  weight: Weight = uniform,
  guidance: ScaleLaw | None = None,
  against: str = 'weak',
  guidance_low: float = 0.0,
  guidance_high: float = 1.0,
  max_r: float = 0.99,
  warmup_steps: int = 10_000,
  c: float | None = 0.1,
  reduction: Reduction = total,
  tangent: Tangent = jvp,
) -> Loss:
  """Eulerian map distillation (AYF-EMD), Algorithm 1.

  Args:
    nets: uses `student` (F), `teacher` (v_φ), and for autoguidance `weak`.
    batch: `x0` [b, ...], `cond` and `null`.
    key: random key of this step.
    step: training step of this stage, for the warm-up of r.
    times: distribution of (t, s).
    weight: w(t, s).
    guidance: distribution of λ in v = λ v_φ + (1 − λ) v_worse, on which the
      student is conditioned, as cond['guidance']; None is v_φ alone.
    against: where v_worse comes from: 'weak' is autoguidance, 'null' is
      classifier-free guidance.
    guidance_low: smallest guided t, in [0, 1].
    guidance_high: largest guided t, in [guidance_low, 1]; elsewhere λ = 1, as
      in Kynkäänniemi et al. (2024), https://arxiv.org/abs/2404.07724.
    max_r: final value of r, in [0, 1]; 1 is the exact condition.
    warmup_steps: H; r = min(max_r, step / H). 0 starts at max_r.
    c: of the tangent normalisation g / (‖g‖ + c); None disables it.
    reduction: of the squares of line 10 over an example, the sum in the paper;
      ‖g‖ of line 9 is always the root of a sum.
    tangent: how dF/dt is computed; see `flow/tangent.py`.

  Returns:
    loss [b], and the means of ‖g‖ before normalisation and of r.

  Raises:
    ValueError: if `max_r`, `warmup_steps`, `against` or `c` is out of range.
  """
  x0 = batch['x0']
  key_t, key_x, key_g = jax.random.split(key, 3)
  t, s = times(key_t, len(x0))  # Line 4
  teacher, cond = guided_teacher(
    nets, batch, key_g, guidance, against, guidance_low, guidance_high
  )
  x_t = interpolate(x0, jax.random.normal(key_x, x0.shape, x0.dtype), t)
  v = teacher(x_t, t)  # Line 6
  r = warm_up(step, max_r, warmup_steps)  # Line 7
  F, dF_dt = tangent(
    lambda x, t: nets.student(x, t, s, cond), (x_t, t), (v, jnp.ones_like(t))
  )
  g = (F - v) + r * expand(t - s, x_t) * dF_dt  # Line 8
  return regress_on_tangent(F, g, weight(t, s), c, r, reduction)  # Lines 9, 10


def ayf_lmd(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: PairLaw = interval,
  weight: Weight = uniform,
  guidance: ScaleLaw | None = None,
  against: str = 'weak',
  guidance_low: float = 0.0,
  guidance_high: float = 1.0,
  max_r: float = 0.99,
  warmup_steps: int = 10_000,
  c: float | None = 0.1,
  reduction: Reduction = total,
  tangent: Tangent = jvp,
) -> Loss:
  """Lagrangian map distillation (AYF-LMD); arguments as in `ayf_emd`.

  It over-smooths images: the paper prefers EMD. The warm-up of r and the
  normalisation are taken over from Algorithm 1.
  """
  x0 = batch['x0']
  key_t, key_x, key_g = jax.random.split(key, 3)
  t, s = times(key_t, len(x0))
  teacher, cond = guided_teacher(
    nets, batch, key_g, guidance, against, guidance_low, guidance_high
  )
  x_t = interpolate(x0, jax.random.normal(key_x, x0.shape, x0.dtype), t)
  r = warm_up(step, max_r, warmup_steps)
  F, dF_ds = tangent(
    lambda s: nets.student(x_t, t, s, cond), (s,), (jnp.ones_like(s),)
  )
  jump = expand(s - t, x_t)
  f = jax.lax.stop_gradient(x_t + jump * F)
  v = teacher(f, s)
  g = (F - v) + r * jump * dF_ds
  return regress_on_tangent(F, g, weight(t, s), c, r, reduction)
