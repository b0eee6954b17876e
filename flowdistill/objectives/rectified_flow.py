"""Rectified flow: L = w(t) D(v(x_t, t), x1 − x0), by default ‖·‖².

Source: Liu, Gong, Liu, "Flow Straight and Fast: Learning to Generate and
Transfer Data with Rectified Flow" (2022), https://arxiv.org/abs/2209.03003,
eq. 1. With the coupling `paired` it is reflow (section 2.2 there), with
`annealed` SlimFlow's annealed reflow (2024), https://arxiv.org/abs/2407.12718,
section 3.1.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.couplings import Coupling, independent
from flowdistill.flow.losses import Reduction, total
from flowdistill.flow.times import TimeLaw, uniform
from flowdistill.flow.transport import interpolate
from flowdistill.flow.weighting import Weight
from flowdistill.flow.weighting import uniform as uniform_weight
from flowdistill.objectives.alignment import features_of, similarity
from flowdistill.objectives.distances import sum_of_distances
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
  distance: tuple[str, ...] = ('l2',),
  reduction: Reduction = total,
  resize: int | None = 64,
  alignment: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
  """Regresses the velocity on x1 − x0 along the line between them.

  Args:
    nets: uses `student`, called for its velocity u(x_t, t, t),
      `perceptual` for the distance lpips, and `features` for an alignment.
    batch: `x0` [b, ...] and `cond`; with pairs also `x1`.
    key: random key of this step.
    step: training step of this stage, for the coupling `annealed`.
    times: distribution of t.
    coupling: of data and noise.
    weight: w(t, s), evaluated at s = t.
    distance: D, a sum of 'l2', 'l1' and 'lpips', which compares x1 − v with x0,
      as SlimFlow's code does.
    reduction: of l2 and l1 over an example: the sum in the papers, the mean in
      the code of both.
    resize: side length to which images are resized for lpips; None disables it.
    alignment: λ, at least 0, of λ (1 − cosine) in addition, between features
      of x0 and those that the student makes of a hidden layer, see
      `alignment.py`. REPA has 0.5 with the mean over an example.

  Returns:
    loss [b], and with an alignment the mean cosine, `similarity`.

  Raises:
    ValueError: if an option is out of range, or the student makes no features.
  """
  if alignment < 0:
    raise ValueError(f'alignment = {alignment} must be at least 0')
  key_t, key_x = jax.random.split(key)
  x0, x1 = coupling(key_x, batch, step)
  t = times(key_t, len(x0))
  inputs = interpolate(x0, x1, t), t, t, batch['cond']
  compare = sum_of_distances(
    nets, distance, resize, reduction, picture=lambda v: x1 - v
  )
  if not alignment:
    v = nets.student(*inputs)
    return weight(t, t) * compare(v, x1 - x0), {}
  student: Any = nets.student
  v, h = student.aligned(*inputs)
  cosine = similarity(h, features_of(nets, x0))
  loss = weight(t, t) * compare(v, x1 - x0) + alignment * (1 - cosine)
  return loss, {'similarity': jnp.mean(cosine)}
