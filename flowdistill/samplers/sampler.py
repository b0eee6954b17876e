"""What a sampler is: how it starts, one step, and what that costs."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Carry = tuple[Array, ...]
AverageVelocity = Callable[[Array, Array, Array], Array]
"""u(x_t [b, ...], t [b], s [b]) -> [b, ...], the condition closed over."""


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A method that goes from noise to data along a grid of times.

  Attributes:
    init: x1 [b, ...] -> carry, a tuple that starts with x_t [b, ...].
    step: (carry, t, s, keys) -> carry, from time t to s < t, both scalars,
      with keys [b]: one for each example, so that none depends on another.
    nfe: number of steps -> number of network calls.
  """

  init: Callable[[Array], Carry]
  step: Callable[[Carry, Array, Array, Array], Carry]
  nfe: Callable[[int], int]


def one_state(
  step: Callable[[Array, Array, Array, Array], Array],
  nfe: Callable[[int], int],
) -> Sampler:
  """A sampler that carries x_t alone, from step(x_t, t, s, keys) -> x_s."""
  return Sampler(
    init=lambda x1: (x1,),
    step=lambda carry, t, s, keys: (step(carry[0], t, s, keys),),
    nfe=nfe,
  )


def at_scalar_times(u: AverageVelocity) -> AverageVelocity:
  """u, asked with scalar times, the same for the whole batch."""
  return lambda x, t, s: u(x, jnp.full(len(x), t), jnp.full(len(x), s))
