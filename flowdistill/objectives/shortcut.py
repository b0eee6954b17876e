"""Shortcut models: one step of size 2d equals two steps of size d.

  step 0:   L = ‖u(x_t, t, t) − v‖²
  step 2d:  L = ‖u(x_t, t, t − 2d) − sg (u_1 + u_2) / 2‖²
            u_1 = u(x_t, t, t − d), u_2 = u(x_t − d u_1, t − d, t − 2d)

d is a power of two times 1/M and t a multiple of 2d. For the smallest, d = 1/M,
the two steps are Euler steps, with the velocity of step 0. So the fixed point
is, at every step size, the flow discretised by M Euler steps.

Source: Frans et al., "One Step Diffusion via Shortcut Models" (2024),
https://arxiv.org/abs/2410.12557, section 3 and Algorithm 1, with its code,
https://github.com/kvfrans/shortcut-models, where t = 0 is noise. The code also
leaves 1e-5 of the noise in the data, which is not done here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import extrapolate
from flowdistill.flow.losses import Reduction, total
from flowdistill.flow.times import grid
from flowdistill.flow.transport import expand, interpolate
from flowdistill.objectives.regression import Loss
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.targets import frozen, velocity

Array = jax.Array


def shortcut(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  distil: bool = False,
  smallest: int = 128,
  share: float = 0.25,
  target: str = 'ema',
  guidance: float = 1.0,
  clip: float | None = 4.0,
  reduction: Reduction = total,
) -> Loss:
  """Self-consistency on the first rows of the batch, flow matching on the rest.

  Only the first rows need extra passes for their targets: 3 + 2 share forward
  passes in total, 1 − share more when distilling. Step sizes are spread evenly
  over these rows in ascending order, so that guidance, which is part of the
  targets of the smallest steps only, costs just 2 share / log2(M) more; the
  larger steps inherit it, step 0 stays unguided.

  Args:
    nets: uses `student`, with target 'ema' also `ema`, with `distil`
      `teacher`.
    batch: `x0` [b, ...] and `cond`; for guidance also `null`.
    key: random key of this step.
    step: unused; every objective takes it.
    distil: whether v is the velocity of `nets.teacher`.
    smallest: M, 1/M is the smallest step; a power of two, at least 2.
    share: fraction of the batch that learns steps above 0, in [0, 1], at least
      one row if not 0. The paper has 1/4, its code 1/8.
    target: which network makes the two steps, 'ema' or 'student'.
    guidance: scale of classifier-free guidance; 1 disables it.
    clip: bounds x_t − d u_1 and the target of a step, elementwise, as in the
      code, but not in the paper; None disables it.
    reduction: of the squares over an example: the sum in the paper, the mean in
      its code.

  Returns:
    loss [b], and its mean over the rows with steps above 0.

  Raises:
    ValueError: if an option is out of range.
  """
  del step
  x0, cond = batch['x0'], batch['cond']
  rows, sizes = _count_rows(share, len(x0)), _count_sizes(smallest)
  key_t, key_d, key_x = jax.random.split(key, 3)
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  t_jump, d = _draw_jumps(key_d, rows, smallest, sizes)
  t = jnp.concatenate([t_jump, grid(key_t, len(x0) - rows, steps=smallest)])
  x_t = interpolate(x0, x1, t)
  targets = []
  if rows:
    u = _velocity_of_step(frozen(nets, target), batch, d, smallest, guidance)
    targets.append(_two_steps(u, x_t[:rows], t_jump, d, clip))
  if rows < len(x0):
    rest = jax.tree.map(lambda a: a[rows:], ((x0, x1), x_t, t, cond))
    targets.append(velocity(nets, *rest, distil=distil))
  u = nets.student(x_t, t, t.at[:rows].add(-2 * d), cond)
  loss = reduction(jnp.square(u - jnp.concatenate(targets)))
  return loss, {'jump': jnp.mean(loss[:rows])} if rows else {}


def _two_steps(
  u: Callable[[Array, Array], Array],
  x_t: Array,
  t: Array,
  d: Array,
  clip: float | None,
) -> Array:
  """The average velocity of two steps of size d with velocities u(x, t)."""

  def bound(x: Array) -> Array:
    return x if clip is None else jnp.clip(x, -clip, clip)

  u_1 = u(x_t, t)
  u_2 = u(bound(x_t - expand(d, x_t) * u_1), t - d)
  return bound((u_1 + u_2) / 2)


def _velocity_of_step(
  u: Callable[..., Array],
  batch: Mapping[str, Any],
  d: Array,
  smallest: int,
  guidance: float,
) -> Callable[[Array, Array], Array]:
  """u(x, t) of a step of size d: for the smallest, of step 0 with guidance."""
  rows, euler = len(d), d * smallest == 1
  few = math.ceil(rows / _count_sizes(smallest))  # Beyond, euler is False.
  cond = jax.tree.map(lambda a: a[:rows], batch['cond'])

  def guided(x: Array, t: Array) -> Array:
    s = jnp.where(euler, t, t - d)
    v = u(x, t, s, cond)
    if guidance == 1:
      return v
    null = jax.tree.map(lambda a: a[:few], batch['null'])
    worse = u(x[:few], t[:few], s[:few], null)
    scale = expand(jnp.where(euler[:few], guidance, 1), worse)
    return jnp.concatenate([extrapolate(v[:few], worse, scale), v[few:]])

  return guided


def _draw_jumps(
  key: Array, rows: int, smallest: int, sizes: int
) -> tuple[Array, Array]:
  """t [rows], where jumps of size 2d start, and d, rising from 1/M."""
  key_size, key_t = jax.random.split(key)
  place = jnp.arange(rows) * sizes + sizes * jax.random.uniform(key_size)
  size = jnp.minimum(place // max(rows, 1), sizes - 1).astype(jnp.int32)
  jumps = smallest >> (size + 1)  # How many lead from noise to data.
  number = jax.random.randint(key_t, (rows,), 1, jumps + 1)
  return number / jumps, 0.5 / jumps


def _count_sizes(smallest: int) -> int:
  sizes = smallest.bit_length() - 1
  if smallest < 2 or smallest != 2**sizes:
    raise ValueError(
      f'smallest = {smallest} must be a power of two, at least 2'
    )
  return sizes


def _count_rows(share: float, n: int) -> int:
  if not 0 <= share <= 1:
    raise ValueError(f'share = {share} must lie in [0, 1]')
  return max(round(share * n), 1) if share else 0
