"""A generator: a network with parameters, as evaluators and users sample it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.stack import constrain_layer_inputs
from flowdistill.samplers import rows
from flowdistill.samplers.guided import Guidance
from flowdistill.samplers.sampling_plan import Grid, Plan
from flowdistill.samplers.solve import Network, call, noise, solve
from flowdistill.training.sharding import Layout

Cond = Mapping[str, np.ndarray]
Start = Callable[[np.ndarray], tuple[Any, Any]]
"""start(index [b]) -> (x [b, ...], keys [b]), placed on the devices."""


class Space(Protocol):
  """Between the arrays that a network sees and the pictures of a person."""

  def encode(self, x: np.ndarray, /) -> np.ndarray: ...
  def decode(self, x: np.ndarray, /) -> np.ndarray: ...


class Samples(NamedTuple):
  """Examples, and what they cost.

  Attributes:
    x: float32 [n, ...].
    nfe: int32 [n], network calls for each example, those of guidance too.
  """

  x: np.ndarray
  nfe: np.ndarray


@dataclasses.dataclass(frozen=True)
class RowSharded:
  """A network whose activations stay sharded along the rows of the batch.

  It compares by value, so that programs are compiled once for it.
  """

  apply: Network
  layout: Layout

  def __call__(self, *args: Any) -> jax.Array:
    with constrain_layer_inputs(self.layout.constrain):
      return self.apply(*args)


@dataclasses.dataclass(frozen=True)
class Generator:
  """generator(n, ...) -> `Samples`: a network with parameters.

  Example i is a function of (seed, i): batches have one fixed shape and the
  last one is padded, so an example is the same to the byte however many are
  drawn, and to float tolerance whatever the batch size or the mesh. On a mesh
  over several processes every method is collective.

  A network that takes the guidance scale as a scalar condition is conditioned
  on it, which costs one call, and on 1 without guidance. Any other is called a
  second time, without its conditions.

  Attributes:
    apply: the network; a program is compiled once for each.
    params: its parameters, on the first device or sharded by `layout`.
    spec: of the data that it was trained on.
    batch_size: of its calls; on a mesh it is rounded up to divide over it.
    scalars: the scalar conditions [b] that it takes.
    layout: over which devices a batch is spread; None is the first one.
    space: decodes what was drawn; None is the identity.
  """

  apply: Network
  params: Any
  spec: DataSpec
  batch_size: int
  scalars: tuple[str, ...] = ()
  layout: Layout | None = None
  space: Space | None = None

  def __call__(
    self,
    n: int,
    *,
    sampler: str = 'flow_map',
    nfe: int | None = 4,
    cond: Cond | None = None,
    guidance: Guidance | None = None,
    seed: int = 0,
    first: int = 0,
    grid: Grid = 'uniform',
    **options: Any,
  ) -> Samples:
    """Draws examples `first` to `first` + n − 1 of a seed.

    Args:
      n: number of examples, at least 1.
      sampler: a name in SAMPLERS.
      nfe: network calls for one example, those of guidance too; None for an
        adaptive sampler.
      cond: name -> array [n, ...].
      guidance: λ, or {'scale': λ, 'low': 0.0, 'high': 1.0}: at the times from
        low to high, λ u(cond) + (1 − λ) u(null) in the place of u(cond).
      seed: noise i, and every draw after it, is a function of (seed, i).
      first: number of the first example.
      grid: a name in GRIDS, or {'name': a name, and that grid's options}.
      **options: of the sampler.

    Raises:
      ValueError: see `plan_sampling`; for a condition whose length is not n,
        or a tolerance that is not reached.
    """
    plan = self._plan(
      sampler, nfe, {**options, 'grid': grid, 'guidance': guidance}
    )
    key = jax.random.key(seed)

    def start(index: np.ndarray) -> tuple[Any, Any]:
      return self._noise(key, first + index, self.spec.shape)

    batches, nfes = self._solve(n, plan, start, cond or {})
    pictures = [self.to_pictures(x) for x in batches]
    return Samples(np.concatenate(pictures)[:n], nfes)

  def encode(
    self,
    x0: np.ndarray,
    *,
    sampler: str = 'heun',
    nfe: int | None = 32,
    cond: Cond | None = None,
    guidance: Guidance | None = None,
    grid: Grid = 'uniform',
    **options: Any,
  ) -> Samples:
    """Goes from data x0 [n, ...] to noise, along the grid from its end.

    Raises:
      ValueError: as for drawing, and for a sampler that cannot go backwards.
    """
    plan = self._plan(
      sampler,
      nfe,
      {**options, 'grid': grid, 'guidance': guidance},
      backwards=True,
    )

    def start(index: np.ndarray) -> tuple[Any, Any]:
      x = self.to_space(rows.take(np.asarray(x0, np.float32), index))
      _, unused = self._noise(jax.random.key(0), index, ())
      return self._spread(x), unused

    batches, nfes = self._solve(len(x0), plan, start, cond or {})
    return Samples(np.concatenate(batches)[: len(x0)], nfes)

  def to_space(self, x0: np.ndarray) -> np.ndarray:
    """Pictures [n, ...] as the network sees them."""
    return x0 if self.space is None else np.asarray(self.space.encode(x0))

  def to_pictures(self, x: np.ndarray) -> np.ndarray:
    """What the network makes [n, ...] as pictures."""
    return x if self.space is None else np.asarray(self.space.decode(x))

  def ask(
    self,
    x_t: np.ndarray,
    t: np.ndarray,
    s: np.ndarray,
    cond: Cond | None = None,
  ) -> np.ndarray:
    """The network itself, u(x_t [n, ...], t [n], s [n], cond) [n, ...]."""
    states = {'x_t': x_t, 't': t, 's': s}
    rows.check(len(x_t), states=states, cond=cond or {})
    given = [np.asarray(a, np.float32) for a in states.values()], cond or {}
    batches = []
    for index in rows.indices(len(x_t), self._batch_size):
      arrays, conds = self._spread(rows.take(given, index))
      batches.append(call(self._network, self.params, *arrays, conds))
    return np.concatenate([*map(self._collect, batches)])[: len(x_t)]

  def _plan(
    self,
    sampler: str,
    nfe: int | None,
    given: Mapping[str, Any],
    *,
    backwards: bool = False,
  ) -> Plan:
    return plan_sampling(
      sampler,
      nfe,
      given,
      spec=self.spec,
      scalars=self.scalars,
      backwards=backwards,
    )

  def _solve(
    self, n: int, plan: Plan, start: Start, cond: Cond
  ) -> tuple[list[np.ndarray], np.ndarray]:
    """Padded batches of x at the last time of the plan, and the NFE [n]."""
    scalars = {
      name: np.full(n, value, np.float32)
      for name, value in plan.scalars.items()
    }
    cond = {**scalars, **cond}
    rows.check(n, cond=cond)
    conds = cond, self._null(plan, cond)
    batches = []
    for index in rows.indices(n, self._batch_size):
      now = self._spread(rows.take(conds, index))
      batches.append(
        solve(self._network, self.params, plan, *start(index), *now)
      )
    x, nfe, arrived = (
      [*map(self._collect, parts)] for parts in zip(*batches, strict=True)
    )
    if plan.control is not None:
      plan.control.check_arrived(np.concatenate(arrived)[:n])
    return x, np.concatenate(nfe)[:n]

  def _null(self, plan: Plan, cond: Cond) -> Cond:
    """The unconditional `cond` where the network is called with it."""
    if plan.guidance is None:
      return {}
    if not self.spec.cond.keys() & cond.keys():
      raise ValueError(
        f'cond has {sorted(cond)}; for guidance it must have one of '
        f'{sorted(self.spec.cond)}, to lead away from its null'
      )
    return self.spec.null(cond)

  @property
  def _network(self) -> Network:
    if self.layout is None:
      return self.apply
    return RowSharded(self.apply, self.layout)

  @property
  def _batch_size(self) -> int:
    if self.layout is None:
      return self.batch_size
    return self.layout.round_up(self.batch_size)

  def _noise(self, *args: Any) -> tuple[jax.Array, jax.Array]:
    return noise(self.layout and self.layout.rows)(*args)

  def _spread(self, tree: Any) -> Any:
    return tree if self.layout is None else self.layout.spread(tree)

  def _collect(self, array: jax.Array) -> np.ndarray:
    return (
      np.asarray(array) if self.layout is None else self.layout.collect(array)
    )
