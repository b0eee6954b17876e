"""A sampler: its initial state, one step, and the times of network calls."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.samplers.control import Control

Array = jax.Array
Carry = tuple[Array, ...]
AverageVelocity = Callable[[Array, Array, Array], Array]
"""u(x_t [b, ...], t [b], s [b]) -> [b, ...], the condition closed over."""
Asks = Callable[[Any], Any]
"""asks(grid [steps + 1]) -> the times of the network calls of one run."""


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A method that goes from noise to data along a grid of times.

  Attributes:
    init: (x [b, ...], t) -> carry, a tuple that starts with x_t [b, ...].
    step: (carry, t, s, keys) -> carry, from time t to time s, with keys [b]:
      one for each example, so that none depends on another. The times are
      scalars, or [b] if there is a `control`.
    asks: grid [steps + 1] -> the times of the network calls along it, in order;
      their number is the NFE.
    reversible: whether it also goes from data to noise, along a rising grid.
    jumps: whether it calls u(x_t, t, s) at s < t; otherwise it calls the
      velocity u(x_t, t, t) alone.
    control: of the step size, if the sampler is adaptive. Then `init` and
      `step` return (x, v, error): the velocity at x, and the error of x.
  """

  init: Callable[[Array, Array], Carry]
  step: Callable[[Carry, Array, Array, Array], Carry]
  asks: Asks
  reversible: bool = False
  jumps: bool = False
  control: Control | None = None


def at_starts(grid: np.ndarray) -> np.ndarray:
  """One call a step, at its start."""
  return grid[:-1]


def at_both_ends(grid: np.ndarray, *, at_zero: bool) -> np.ndarray:
  """Calls at both ends of every step, at time 0 only if the step starts there.

  Args:
    grid: times [steps + 1].
    at_zero: whether there is a call at the end of a step to 0 as well.
  """
  ends = np.stack([grid[:-1], grid[1:]], axis=1)
  called = np.stack([np.full(len(ends), True), ends[:, 1] > 0], axis=1)
  return ends[called | at_zero]


def one_state(
  step: Callable[[Array, Array, Array, Array], Array],
  asks: Asks = at_starts,
  *,
  reversible: bool = False,
  jumps: bool = False,
) -> Sampler:
  """A sampler that carries x_t alone, from step(x_t, t, s, keys) -> x_s."""
  return Sampler(
    init=lambda x, t: (x,),
    step=lambda carry, t, s, keys: (step(carry[0], t, s, keys),),
    asks=asks,
    reversible=reversible,
    jumps=jumps,
  )


def at_times(u: AverageVelocity) -> AverageVelocity:
  """u that accepts scalar times, the same for the whole batch."""

  def each(x: Array, t: Array, s: Array) -> Array:
    return u(x, *(jnp.broadcast_to(r, len(x)) for r in (t, s)))

  return each


def fresh_noise(keys: Array, x: Array) -> Array:
  """Standard normal noise like x [b, ...], of example i from keys[i]."""
  draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))
  return draw(keys)
