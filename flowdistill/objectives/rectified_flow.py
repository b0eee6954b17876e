"""Rectified flow: L = w(t) ‖v(x_t, t) − (x1 − x0)‖².

Source: Liu, Gong, Liu, "Flow Straight and Fast: Learning to Generate and
Transfer Data with Rectified Flow" (2022), https://arxiv.org/abs/2209.03003,
eq. 1. With the coupling `paired` it is reflow (section 2.2 there), with
`annealed` SlimFlow's annealed reflow (2024), https://arxiv.org/abs/2407.12718,
section 3.1.
"""

from collections.abc import Mapping
from typing import Any

import jax

from flowdistill.flow.couplings import Coupling, independent
from flowdistill.flow.losses import squared_norm
from flowdistill.flow.times import TimeLaw, uniform
from flowdistill.flow.transport import interpolate
from flowdistill.flow.weighting import Weight
from flowdistill.flow.weighting import uniform as uniform_weight
from flowdistill.objectives.roles import Roles

Array = jax.Array


def rectified_flow(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: TimeLaw = uniform,
  coupling: Coupling = independent,
  weight: Weight = uniform_weight,
) -> tuple[Array, dict[str, Array]]:
  """Regresses the velocity on x1 − x0 along the line between them.

  Args:
    nets: uses `student`, called for its velocity u(x_t, t, t).
    batch: `x0` [b, ...] and `cond`; with pairs also `x1`.
    key: random key of this step.
    step: training step of this stage, for the coupling `annealed`.
    times: distribution of t.
    coupling: of data and noise.
    weight: w(t, s), evaluated at s = t.

  Returns:
    loss [b], no metrics.
  """
  key_t, key_x = jax.random.split(key)
  x0, x1 = coupling(key_x, batch, step)
  t = times(key_t, len(x0))
  v = nets.student(interpolate(x0, x1, t), t, t, batch['cond'])
  return weight(t, t) * squared_norm(v - (x1 - x0)), {}
