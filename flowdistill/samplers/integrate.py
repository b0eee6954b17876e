"""Drives a sampler along a grid of times, with one scan."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flowdistill.samplers.sampler import Carry, Sampler

Array = jax.Array


def sample(sampler: Sampler, grid: Array, x1: Array, keys: Array) -> Array:
  """From noise x1 [b, ...] to data x0 [b, ...].

  Args:
    sampler: made for this batch.
    grid: times [steps + 1], falling from noise to data.
    x1: standard normal noise, at time grid[0].
    keys: [b], one for each example; a step's noise is drawn from them.

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
  carry, _ = jax.lax.scan(body, sampler.init(x1), now)
  return carry[0]


def steps_for(nfe_of_steps: Callable[[int], int], nfe: int) -> int:
  """The number of steps that costs `nfe` network calls.

  Args:
    nfe_of_steps: `Sampler.nfe`, rising.
    nfe: network calls, at least 1.

  Raises:
    ValueError: if no number of steps costs that; it names the nearest that do.
  """
  steps = 1
  while nfe_of_steps(steps) < nfe:
    steps += 1
  if nfe_of_steps(steps) == nfe:
    return steps
  nearest = [nfe_of_steps(n) for n in (steps - 1, steps) if n]
  raise ValueError(
    f'nfe is {nfe}, and this sampler has no such number of network calls: '
    f'the nearest is {" or ".join(map(str, nearest))}'
  )
