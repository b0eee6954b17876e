"""Dormand and Prince's Runge-Kutta pair of orders 5 and 4.

Source: Dormand & Prince, "A family of embedded Runge-Kutta formulae" (1980),
https://doi.org/10.1016/0771-050X(80)90013-3, table 2; the same in Hairer,
Nørsett, Wanner, "Solving Ordinary Differential Equations I" (1993), table 5.2.
"""

import jax
import jax.numpy as jnp

from flowdistill.flow.transport import expand
from flowdistill.samplers.control import Control
from flowdistill.samplers.sampler import (
  AverageVelocity,
  Carry,
  Sampler,
  at_times,
)

Array = jax.Array
# Row i is where stage i + 2 evaluates the velocity: at time t + c_i h, and at x
# plus h times these multiples of the velocities so far. The last is the result.
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
  (1 / 5,),
  (3 / 40, 9 / 40),
  (44 / 45, -56 / 15, 32 / 9),
  (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
  (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
  (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
FOURTH = (
  *(5179 / 57600, 0.0, 7571 / 16695, 393 / 640),
  *(-92097 / 339200, 187 / 2100, 1 / 40),
)
ERROR = tuple(
  fifth - fourth
  for fifth, fourth in zip((*STAGES[-1], 0.0), FOURTH, strict=True)
)


def rk45(
  u: AverageVelocity,
  *,
  rtol: float = 1e-5,
  atol: float = 1e-5,
  safety: float = 0.9,
  min_factor: float = 0.2,
  max_factor: float = 10.0,
  first_step: float = 0.05,
  max_steps: int = 1000,
) -> Sampler:
  """Order 5, with steps as long as its estimate of the error allows.

  Every example has its own steps, so that none depends on its neighbours. A
  step costs six calls, whether it is accepted or not, as its last stage is the
  first one of the next; the start costs one. (SciPy's `RK45`, which Rectified
  Flow uses, is the same method with one step size for the batch.) Where the
  velocity is discontinuous in time, as at the ends of a guidance interval, the
  error may exceed the tolerance.

  Args:
    u: the average velocity.
    rtol: relative error that a step may make, above 0.
    atol: absolute error that a step may make, at least 0.
    safety: factor on the step size that would just be accepted, in (0, 1).
    min_factor: least factor from one step size to the next, in (0, 1).
    max_factor: largest factor from one step size to the next, above 1.
    first_step: size of the first step, in (0, 1].
    max_steps: attempts for an example, accepted or not.

  Raises:
    ValueError: for an option out of range.
  """
  u = at_times(u)

  def init(x: Array, t: Array) -> Carry:
    return x, u(x, t, t), jnp.zeros_like(x)

  def step(carry: Carry, t: Array, s: Array, keys: Array) -> Carry:
    del keys
    x, v, _ = carry
    h, x_s, slopes = expand(s - t, x), x, [v]
    for node, weights in zip(NODES, STAGES, strict=True):
      x_s = x + h * _combine(weights, slopes)
      r = _between(t, s, node)
      slopes.append(u(x_s, r, r))
    return x_s, slopes[-1], h * _combine(ERROR, slopes)

  control = Control(
    rtol=rtol,
    atol=atol,
    order=4,
    safety=safety,
    min_factor=min_factor,
    max_factor=max_factor,
    first_step=first_step,
    max_steps=max_steps,
  )
  return Sampler(init, step, _asks, reversible=True, control=control)


def _asks(grid: Array) -> Array:
  """Once at the start, six times a step; [steps + 1, ...] -> [calls, ...]."""
  t, s = grid[:-1, None], grid[1:, None]
  stages = [_between(t, s, node) for node in NODES]
  stages = jnp.concatenate(stages, axis=1)
  return jnp.concatenate([grid[:1], stages.reshape(-1, *grid.shape[1:])])


def _between(t: Array, s: Array, node: float) -> Array:
  """t + node (s − t), which is exactly s for node = 1."""
  return (1 - node) * t + node * s


def _combine(weights: tuple[float, ...], slopes: list[Array]) -> Array:
  return sum(
    (w * v for w, v in zip(weights, slopes, strict=True) if w),
    jnp.zeros_like(slopes[0]),
  )
