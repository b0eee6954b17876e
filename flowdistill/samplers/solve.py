"""What is compiled: noise, one batch along a plan, one call of the network."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.noise import numbered
from flowdistill.samplers.guided import calls, guide
from flowdistill.samplers.integrate import adapt, sample
from flowdistill.samplers.sampling_plan import Plan

Array = jax.Array
Network = Callable[[Any, Array, Array, Array, Any], Array]
"""apply(params, x_t [b, ...], t [b], s [b], cond) -> [b, ...]."""


@functools.partial(jax.jit, static_argnums=0, static_argnames='apply_worse')
def solve(
  apply: Network,
  params: Any,
  plan: Plan,
  x: Array,
  keys: Array,
  cond: Any,
  worse: Any,
  *,
  apply_worse: Network | None = None,
  params_worse: Any = None,
) -> tuple[Array, Array, Array]:
  """Runs a plan on one batch; compiled once per `apply` and kind of plan.

  Args:
    apply: the network.
    params: of the network.
    plan: which sampler, at which times, with which guidance.
    x: [b, ...], at the first time of the plan.
    keys: [b], one for each example.
    cond: name -> array [b, ...].
    worse: the conditions for what guidance leads away from; read only where
      the plan has guidance.
    apply_worse: the network that is given them; None is `apply`.
    params_worse: of that network.

  Returns:
    x at the last time of the plan, the network calls int32 [b], and whether
    each example arrived [b].
  """

  def u(x: Array, t: Array, s: Array) -> Array:
    return apply(params, x, t, s, cond)

  def u_worse(x: Array, t: Array, s: Array) -> Array:
    if apply_worse is None:
      return apply(params, x, t, s, worse)
    return apply_worse(params_worse, x, t, s, worse)

  velocity = u
  if plan.guidance is not None:
    velocity = guide(u, u_worse, plan.guidance)
  method, n = plan.method(velocity), len(x)
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
