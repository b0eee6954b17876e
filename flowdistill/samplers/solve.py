"""What is compiled: noise, one batch along a plan, one call of the network."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.noise import numbered
from flowdistill.samplers.guided import calls, guide
from flowdistill.samplers.integrate import adapt, sample
from flowdistill.samplers.sampler import AverageVelocity
from flowdistill.samplers.sampling_plan import Plan

Array = jax.Array
Network = Callable[[Any, Array, Array, Array, Any], Array]
"""apply(params, x_t [b, ...], t [b], s [b], cond) -> [b, ...]."""


@functools.partial(jax.jit, static_argnums=0)
def solve(
  apply: Network,
  params: Any,
  plan: Plan,
  x: Array,
  keys: Array,
  cond: Any,
  null: Any,
) -> tuple[Array, Array, Array]:
  """Runs a plan on one batch; compiled once per `apply` and kind of plan.

  Args:
    apply: the network.
    params: of the network.
    plan: which sampler, at which times, with which guidance.
    x: [b, ...], at the first time of the plan.
    keys: [b], one for each example.
    cond: name -> array [b, ...].
    null: the unconditional `cond`; read only where the plan has guidance.

  Returns:
    x at the last time of the plan, the network calls int32 [b], and whether
    each example arrived [b].
  """

  def conditioned_on(cond: Any) -> AverageVelocity:
    return lambda x, t, s: apply(params, x, t, s, cond)

  u = conditioned_on(cond)
  if plan.guidance is not None:
    u = guide(u, conditioned_on(null), plan.guidance)
  method, n = plan.method(u), len(x)
  if method.control is None:
    x = sample(method, plan.times, x, keys)
    return x, jnp.full(n, plan.nfe, jnp.int32), jnp.ones(n, bool)
  cost = functools.partial(calls, plan.guidance)
  return adapt(method, plan.times, x, keys, cost)


@functools.partial(jax.jit, static_argnums=0)
def call(
  apply: Network, params: Any, x_t: Array, t: Array, s: Array, cond: Any
) -> Array:
  """One call of the network, u(x_t, t, s, cond)."""
  return apply(params, x_t, t, s, cond)


@functools.cache
def noise(sharding: Any = None) -> Callable[..., tuple[Array, Array]]:
  """`flow.noise.numbered`, compiled; its results have this sharding."""
  return jax.jit(numbered, static_argnames='shape', out_shardings=sharding)
