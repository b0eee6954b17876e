"""Distillation: one step of the student ends where the teacher's ODE ends.

  L = w(t) D(x_t − t u(x_t, t, 0), x0) + regulariser · L₂

x0 is the end of the teacher's ODE from the noise x1, x_t = (1 − t) x0 + t x1
lies on the line between them, and t on the grid 1/k, ..., 1. k = 1 learns the
step from noise to data, k > 1 also the steps from the points in between, which
sampling in k steps visits if the teacher's paths are straight, as after reflow.

L₂ is SlimFlow's flow guidance. From fresh noise, one step of the student is
compared with two: its own of length τ ~ U[low, high), then the teacher's.

  v_s = u(x1, 1, 0),  x = x1 − τ v_s, which is at time 1 − τ,
  L₂ = D(x1 − v_s, x1 − sg[τ v_s + (1 − τ) v_φ(x, 1 − τ)])

Source: Liu, Gong, Liu, "Flow Straight and Fast" (2022),
https://arxiv.org/abs/2209.03003 (its distillation, in k steps); Zhu, Liu,
Liu, "SlimFlow" (2024), https://arxiv.org/abs/2407.12718, section 3.2. The first
of the two steps is the student's, as in its published code.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.losses import Distance, Reduction, mean
from flowdistill.flow.times import TimeLaw, grid
from flowdistill.flow.transport import expand, flow_map, interpolate
from flowdistill.flow.weighting import Weight, uniform
from flowdistill.objectives.distances import sum_of_distances
from flowdistill.objectives.roles import Roles

Array = jax.Array


def distillation(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  times: TimeLaw = grid,
  weight: Weight = uniform,
  distance: tuple[str, ...] = ('l2',),
  reduction: Reduction = mean,
  resize: int | None = 64,
  regulariser: float = 1.0,
  tau: tuple[float, float] = (0.2, 0.8),
  solver_steps: int = 0,
) -> tuple[Array, dict[str, Array]]:
  """Regresses the student's one step on the end of the teacher's ODE.

  It costs 3 forward passes, including the gradient, 4 more with the
  regulariser, and 2 n more for n solver steps.

  Args:
    nets: uses `student`, called as u(x_t, t, 0); `teacher` (v_φ) for the
      regulariser and the solver, and `perceptual` for the distance lpips.
    batch: `x0` [b, ...] and `cond`; without solver steps also `x1`, where x0 is
      the end of the teacher's ODE from x1.
    key: random key of this step.
    step: unused; every objective takes it.
    times: distribution of t; `grid` with `steps` = k is k-step distillation.
    weight: w(t, 0). As D compares data, 'uniform' under l2 weights velocities
      by t².
    distance: D, a sum of 'l2', 'l1' and 'lpips'.
    reduction: of l2 and l1 over an example; the published code has the mean.
    resize: side length to which images are resized for lpips; None disables it.
    regulariser: factor of L₂, 1 in the paper; 0 disables it. `weight` does not
      enter L₂; in SlimFlow's code it does, as w(1 − τ).
    tau: (low, high) of the first step's length τ in L₂.
    solver_steps: n > 0 draws fresh noise and solves the teacher's ODE from it
      by n steps of Heun's method, so that no stored pairs are needed.

  Returns:
    loss [b], and with the regulariser the mean of L₂.

  Raises:
    ValueError: if an option is out of range, or there are no pairs.
  """
  del step
  if regulariser < 0:
    raise ValueError(f'regulariser = {regulariser} must be at least 0')
  compare = sum_of_distances(nets, distance, resize, reduction)
  key_t, key_x, key_r = jax.random.split(key, 3)
  x0, x1 = endpoints(nets, batch, key_x, solver_steps)
  t = times(key_t, len(x0))
  s = jnp.zeros_like(t)
  x_t = interpolate(x0, x1, t)
  predicted = flow_map(nets.student, x_t, t, s, batch['cond'])
  loss = weight(t, s) * compare(predicted, x0)
  if not regulariser:
    return loss, {}
  two_step = flow_guidance(nets, batch, key_r, tau, compare)
  return loss + regulariser * two_step, {'two_step': jnp.mean(two_step)}


def flow_guidance(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  tau: tuple[float, float],
  distance: Distance,
) -> Array:
  """L₂ [b]; its gradient flows through the one step v_s alone.

  Raises:
    ValueError: unless `tau` is (low, high) with 0 <= low <= high <= 1.
  """
  low, high = _range(tau)
  x0, cond = batch['x0'], batch['cond']
  key_x, key_tau = jax.random.split(key)
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  length = jax.random.uniform(key_tau, x0.shape[:1], minval=low, maxval=high)
  start, end = jnp.ones_like(length), jnp.zeros_like(length)
  v_s = nets.student(x1, start, end, cond)
  share = expand(length, x1)
  second = nets.teacher(x1 - share * v_s, 1 - length, cond)
  target = jax.lax.stop_gradient(share * v_s + (1 - share) * second)
  return distance(x1 - v_s, x1 - target)


def endpoints(
  nets: Roles, batch: Mapping[str, Any], key: Array, solver_steps: int
) -> tuple[Array, Array]:
  """(x0, x1), both ends of the teacher's paths, from the batch or solved for.

  Raises:
    ValueError: if `solver_steps` is negative, or 0 and there is no `x1`.
  """
  if solver_steps < 0:
    raise ValueError(f'solver_steps = {solver_steps} must be at least 0')
  x0 = batch['x0']
  if solver_steps:
    x1 = jax.random.normal(key, x0.shape, x0.dtype)

    def velocity(x: Array, t: Array) -> Array:
      return nets.teacher(x, t, batch['cond'])

    return jax.lax.stop_gradient(solve(velocity, x1, solver_steps)), x1
  if 'x1' not in batch:
    raise ValueError(
      'solver_steps = 0 needs pairs: batches with x1, and this one has '
      f'{sorted(batch)}; set `pairs` of the stage, or more solver steps'
    )
  return x0, batch['x1']


def solve(
  velocity: Callable[[Array, Array], Array], x1: Array, steps: int
) -> Array:
  """Solves dx/dt = v(x, t) from x1 at t = 1 to x0 at t = 0, by Heun's method.

  Each of the equal steps calls the velocity twice; the error is of order 2.
  """

  def step(x: Array, i: Array) -> tuple[Array, None]:
    t, s = (jnp.full(len(x), 1 - k / steps) for k in (i, i + 1))
    v = velocity(x, t)
    return x - (v + velocity(x - v / steps, s)) / (2 * steps), None

  return jax.lax.scan(step, x1, jnp.arange(steps))[0]


def _range(tau: tuple[float, float]) -> tuple[float, float]:
  match tau:
    case (int() | float() as low, int() | float() as high):
      if 0 <= low <= high <= 1:
        return low, high
  raise ValueError(
    f'tau = {tau} must be (low, high) with 0 <= low <= high <= 1'
  )
