"""Drives a sampler: a scan over a grid, or a loop with adaptive steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flowdistill.samplers.control import choose
from flowdistill.samplers.sampler import Carry, Sampler

Array = jax.Array


def sample(sampler: Sampler, grid: Array, x1: Array, keys: Array) -> Array:
  """From noise x1 [b, ...] to data x0 [b, ...], or along a rising grid back.

  Args:
    sampler: made for this batch.
    grid: times [steps + 1], falling from noise to data.
    x1: standard normal noise, at time grid[0].
    keys: [b], one for each example; the noise of all steps is drawn from them.

  Returns:
    x at time grid[-1].
  """
  grid = jnp.asarray(grid, x1.dtype)
  steps = jnp.arange(len(grid) - 1)

  def body(carry: Carry, now: tuple[Array, ...]) -> tuple[Carry, None]:
    step, t, s = now
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return sampler.step(carry, t, s, step_keys), None

  now = (steps, grid[:-1], grid[1:])
  carry, _ = jax.lax.scan(body, sampler.init(x1, grid[0]), now)
  return carry[0]


def adapt(
  sampler: Sampler,
  ends: Array,
  x: Array,
  keys: Array,
  calls: Callable[[Array], Array] = jnp.ones_like,
) -> tuple[Array, Array, Array]:
  """From time ends[0] to ends[1] in steps that the sampler's control chooses.

  Every example has its own time and step size. One that has arrived does not
  change while the others continue, and counts no more calls.

  Args:
    sampler: made for this batch, with a `control`.
    ends: [2], falling to go to data, rising to go to noise.
    x: [b, ...], at time ends[0].
    keys: [b], one for each example.
    calls: times -> network calls of one velocity at these times.

  Returns:
    x at time ends[1], the calls [b], and whether an example arrived [b].
  """
  control = sampler.control
  if control is None:
    raise ValueError('this sampler is not adaptive: it has no control')
  start, end = jnp.asarray(ends, x.dtype)
  towards = jnp.sign(end - start)
  t = jnp.full(len(x), start)

  def cost(t: Array, s: Array) -> Array:
    times = sampler.asks(jnp.stack([t, s]))
    return calls(times[1:]).sum(0).astype(jnp.int32)

  def unfinished(state):
    _, t, _, _, _, attempts = state
    return jnp.any(t != end) & (attempts < control.max_steps)

  def attempt(state):
    carry, t, h, rejected, nfe, attempts = state
    left = jnp.abs(end - t)
    s = jnp.where(h < left, t + towards * h, end)
    tried = sampler.step(carry, t, s, keys)
    size = control.size(carry[0], tried[0], tried[2])
    moving, accepted = t != end, size < 1
    carry = jax.tree.map(
      lambda a, b: choose(moving & accepted, a, b), tried, carry
    )
    nfe += jnp.where(moving, cost(t, s), 0)
    h = jnp.minimum(h, left) * control.factor(size, rejected)
    return carry, jnp.where(accepted, s, t), h, ~accepted, nfe, attempts + 1

  h, no = jnp.full_like(t, control.first_step), jnp.zeros_like(t, bool)
  nfe = calls(t).astype(jnp.int32)
  state = (sampler.init(x, t), t, h, no, nfe, 0)
  carry, t, _, _, nfe, _ = jax.lax.while_loop(unfinished, attempt, state)
  return carry[0], nfe, t == end
