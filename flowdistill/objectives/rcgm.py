"""RCGM: recursive consistency of any order; its loss is in `recursion.py`.

Source: Sun & Lin, "Any-step Generation via N-th Order Recursive Consistent
Velocity Field Estimation" (2025), https://openreview.net/forum?id=GnawtLKGkP.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.couplings import Coupling, independent
from flowdistill.flow.losses import Reduction, mean, mean_square
from flowdistill.flow.times import PairLaw, sorted_uniform
from flowdistill.flow.transport import interpolate
from flowdistill.flow.weighting import Weight, tangent
from flowdistill.objectives.recursion import Recursion, regress
from flowdistill.objectives.roles import Roles

Array = jax.Array


def rcgm(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: PairLaw = sorted_uniform,
  coupling: Coupling = independent,
  weight: Weight = tangent,
  order: int = 2,
  delta: float = 0.01,
  clip: float | None = 1.0,
  loss: str = 'barron',
  c: float = 1e-3,
  reduction: Reduction = mean,
  enhanced_ratio: float = 0.0,
  enhanced_range: tuple[float, ...] = (0.0, 1.0),
  target: str = 'student',
  distil: bool = False,
) -> tuple[Array, dict[str, Array]]:
  """A jump is regressed on a short step followed by N jumps.

  Forward passes: 3 + N, 2 more with enhancement, 1 more when distilling (which
  for the target 'frozen' is one of those 2).

  Args:
    nets: uses `student`; with target 'ema' `ema`, with 'frozen' or `distil`
      `teacher`.
    batch: `x0` [b, ...] and `cond`; for enhancement `null`, with pairs `x1`.
    key: random key of this step.
    step: training step of this stage, for the coupling `annealed`.
    times: distribution of (t, s).
    coupling: of data and noise.
    weight: w(t, s).
    order: N >= 0 (estimate_order). 0 is flow matching, where s = t; 1 is a
      consistency model; 2 and more tolerate a smoother `ema`.
    delta: δ, above 0. Shorter jumps are trained by flow matching. In bfloat16 a
      jump has a relative error of 2⁻⁹, and g that error divided by δ.
    clip: largest |g| of a coordinate, None for no clip; unused for N = 0. With
      v = x1 − x0 it also clips that noise, which biases the solution from the
      mean towards the median.
    loss: d, 'barron' or 'l2', of the reduced squares of an example.
    c: of 'barron', above 0.
    reduction: of the squares over an example, the mean in the code; of the sum
      over n elements, √n c gives the same 'barron' up to √n.
    enhanced_ratio: v += ratio (v(cond) − v(null)); 0 disables it.
    enhanced_range: the open interval of t in which v is enhanced.
    target: 'student' or 'ema' make the jumps and the velocities of the
      enhancement; with 'frozen' the student makes the jumps, which depend on s,
      and `nets.teacher` the velocities.
    distil: whether v is v_φ(x_t, t) of `nets.teacher` in place of x1 − x0.

  Returns:
    loss [b], and the mean of the root mean square of g.

  Raises:
    ValueError: if an option is out of range or has no effect.
  """
  recursion = Recursion(
    order=order,
    delta=delta,
    clip=clip,
    enhanced_ratio=enhanced_ratio,
    enhanced_range=enhanced_range,
    target=target,
    distil=distil,
  )
  key_t, key_x = jax.random.split(key)
  x0, x1 = coupling(key_x, batch, step)
  t, s = times(key_t, len(x0))
  s = s if order else t
  x_t, cond = interpolate(x0, x1, t), batch['cond']
  v = recursion.velocity(nets, batch, (x0, x1), x_t, t)
  F = nets.student(x_t, t, s, cond)
  g = recursion.residual(nets, F, v, x_t, t, s, cond)
  size = jnp.mean(jnp.sqrt(mean_square(g)))
  return weight(t, s) * regress(F, g, loss, c, reduction), {'residual': size}
