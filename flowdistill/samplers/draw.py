"""Draws n examples from a network: example i is a function of (seed, i).

Batches have one fixed shape and the last one is padded, so an example is the
same to the byte however many are drawn, and to float tolerance whatever the
batch size.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.flow.noise import numbered
from flowdistill.samplers import rows
from flowdistill.samplers.guided import Guidance, calls, guide
from flowdistill.samplers.integrate import adapt, sample
from flowdistill.samplers.plan import Grid, Plan, make_plan
from flowdistill.samplers.sampler import AverageVelocity

Array = jax.Array
Cond = Mapping[str, np.ndarray]
Network = Callable[[Any, Array, Array, Array, Any], Array]
"""apply(params, x_t [b, ...], t [b], s [b], cond) -> [b, ...]."""


class Samples(NamedTuple):
  """Examples, and what they cost.

  Attributes:
    x: float32 [n, ...].
    nfe: int32 [n], network calls for each example, those of guidance too.
  """

  x: np.ndarray
  nfe: np.ndarray


@dataclasses.dataclass(frozen=True)
class Draw:
  """draw(params, n, ...) -> n examples of a network, and the way back.

  Attributes:
    apply: the network; a program is compiled once for each.
    shape: of one example.
    batch_size: of the network's calls.
    place: puts arrays [b, ...] where the network is.
  """

  apply: Network
  shape: tuple[int, ...]
  batch_size: int
  place: Callable[[Any], Any] = lambda arrays: arrays

  def __call__(
    self,
    params: Any,
    n: int,
    *,
    sampler: str = 'euler',
    nfe: int | None = 8,
    cond: Cond | None = None,
    null: Cond | None = None,
    guidance: Guidance | None = None,
    seed: int = 0,
    first: int = 0,
    grid: Grid = 'uniform',
    **options: Any,
  ) -> Samples:
    """Draws examples `first` to `first` + n − 1 of a seed.

    Args:
      params: of the network.
      n: number of examples, at least 1.
      sampler: a name in SAMPLERS.
      nfe: network calls for one example, those of guidance too; None for a
        sampler that chooses its steps.
      cond: name -> array [n, ...].
      null: the same names, of the unconditional condition.
      guidance: λ, or {'scale': λ, 'low': 0.0, 'high': 1.0}: at the times from
        low to high, λ u(cond) + (1 − λ) u(null) in the place of u(cond).
      seed: noise i, and every draw after it, is a function of (seed, i).
      first: number of the first example.
      grid: a name in GRIDS, or {'name': a name, and that grid's options}.
      **options: of the sampler.

    Raises:
      ValueError: for an unknown name, an option out of range, an nfe that the
        sampler cannot have, guidance without `null`, a condition whose length
        is not n, or a tolerance that is not reached.
    """
    plan = make_plan(sampler, nfe, options, grid=grid, guidance=guidance)
    key = jax.random.key(seed)

    def start(index: np.ndarray) -> tuple[Array, Array]:
      return _noise(key, first + index, self.shape)

    return self._solve(params, n, plan, start, cond, null)

  def encode(
    self,
    params: Any,
    x0: np.ndarray,
    *,
    sampler: str = 'heun',
    nfe: int | None = 8,
    cond: Cond | None = None,
    null: Cond | None = None,
    guidance: Guidance | None = None,
    grid: Grid = 'uniform',
    **options: Any,
  ) -> Samples:
    """Goes from data x0 [n, ...] to noise, along the grid from its end.

    Args:
      params: of the network.
      x0: [n, ...].
      sampler: a solver of the ODE: euler, heun, rk4 or rk45.
      nfe: as for drawing, and so are the others.
      cond: name -> array [n, ...].
      null: the same names, of the unconditional condition.
      guidance: λ, or a dict.
      grid: a name in GRIDS, or a dict.
      **options: of the sampler.

    Raises:
      ValueError: as for drawing, and for a sampler that cannot go backwards.
    """
    plan = make_plan(
      sampler, nfe, options, grid=grid, guidance=guidance, backwards=True
    )
    data = np.asarray(x0, np.float32)

    def start(index: np.ndarray) -> tuple[Any, Array]:
      unused = jax.random.split(jax.random.key(0), len(index))
      return rows.take(data, index), unused

    return self._solve(params, len(x0), plan, start, cond, null)

  def ask(
    self,
    params: Any,
    x_t: np.ndarray,
    t: np.ndarray,
    s: np.ndarray,
    cond: Cond | None = None,
  ) -> np.ndarray:
    """The network itself, u(x_t [n, ...], t [n], s [n], cond) [n, ...].

    Raises:
      ValueError: for arrays that have not n rows.
    """
    asked = {'x_t': x_t, 't': t, 's': s}
    rows.check(len(x_t), asked=asked, cond=cond or {})
    given = [np.asarray(a, np.float32) for a in asked.values()], cond or {}
    batches = []
    for index in rows.indices(len(x_t), self.batch_size):
      now, conds = rows.take(given, index)
      batches.append(_ask(self.apply, params, *now, conds))
    return np.concatenate(batches)[: len(x_t)]

  def _solve(
    self,
    params: Any,
    n: int,
    plan: Plan,
    start: Callable[[np.ndarray], tuple[Any, Array]],
    cond: Cond | None,
    null: Cond | None,
  ) -> Samples:
    """`start(index)` is (x, keys) of the examples of one batch."""
    conds = cond or {}, _needed(null, plan, cond)
    rows.check(n, cond=conds[0], null=conds[1])
    batches = []
    for index in rows.indices(n, self.batch_size):
      now = self.place((*start(index), *rows.take(conds, index)))
      batches.append(_run(self.apply, params, plan, *now))
    x, nfe, arrived = (
      np.concatenate(parts)[:n] for parts in zip(*batches, strict=True)
    )
    if plan.control is not None:
      plan.control.check_arrived(arrived)
    return Samples(x, nfe)


def _needed(null: Cond | None, plan: Plan, cond: Cond | None) -> Cond:
  """`null` where there is guidance, which has to lead away from something."""
  if plan.guidance is None:
    return {}
  if not null or set(null) != set(cond or {}):
    raise ValueError(
      'guidance leads away from `null`, which must have what `cond` has: '
      f'{sorted(cond or {})}, not {sorted(null or {})}'
    )
  return null


@functools.partial(jax.jit, static_argnums=0)
def _run(
  apply: Network,
  params: Any,
  plan: Plan,
  x: Array,
  keys: Array,
  cond: Any,
  null: Any,
) -> tuple[Array, Array, Array]:
  """(x [b, ...], nfe [b], whether it arrived [b]); one program per `apply`."""

  def given(cond: Any) -> AverageVelocity:
    return lambda x, t, s: apply(params, x, t, s, cond)

  u = given(cond)
  if plan.guidance is not None:
    u = guide(u, given(null), plan.guidance)
  method, n = plan.method(u), len(x)
  if method.control is None:
    x = sample(method, plan.times, x, keys)
    return x, jnp.full(n, plan.nfe, jnp.int32), jnp.ones(n, bool)
  cost = functools.partial(calls, plan.guidance)
  return adapt(method, plan.times, x, keys, cost)


_ask = jax.jit(
  lambda apply, params, x_t, t, s, cond: apply(params, x_t, t, s, cond),
  static_argnums=0,
)


_noise = jax.jit(numbered, static_argnames='shape')
"""Its own program: compiled once for all networks."""
