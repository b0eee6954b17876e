"""A generator: a network with parameters, for evaluators and users."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from flowdistill.build.sampling_plan import has_own_grid, plan_sampling
from flowdistill.flow.noise import check_range, check_seed
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.stack import constrain_layer_inputs
from flowdistill.samplers import rows
from flowdistill.samplers.guided import NULL, Guidance, as_scalars
from flowdistill.samplers.published import grid_of
from flowdistill.samplers.sampling_plan import Grid, Plan
from flowdistill.samplers.solve import Network, call, noise, solve
from flowdistill.training.roles import AVERAGE
from flowdistill.training.sharding import Layout

PLAIN = ('uniform', {'name': 'uniform'}, {'name': 'uniform', 'start': 1.0})
T = TypeVar('T')
Cond = Mapping[str, np.ndarray]
CondAt = Callable[[np.ndarray], Cond]
"""The conditions [b, ...] of the rows with the index [b]."""
Start = Callable[[np.ndarray], tuple[Any, Any]]
"""start(index [b]) -> (x [b, ...], keys [b]), placed on the devices."""


class Space(Protocol):
  """The encoding of images as the arrays that a network sees.

  `moments` is None if no network encodes.
  """

  def encode(self, x: np.ndarray, /) -> np.ndarray: ...
  def decode(self, x: np.ndarray, /) -> np.ndarray: ...
  @property
  def moments(self) -> Any: ...


class Samples(NamedTuple):
  """Examples, and their cost.

  Attributes:
    x: float32 [n, ...].
    nfe: int32 [n], network calls for each example, with those of guidance.
  """

  x: np.ndarray
  nfe: np.ndarray


@dataclasses.dataclass(frozen=True)
class RowSharded:
  """A network whose activations stay sharded along the rows of the batch.

  It compares by value, so that a program is compiled only once.
  """

  apply: Network
  layout: Layout

  def __call__(self, *args: Any) -> jax.Array:
    with constrain_layer_inputs(self.layout.constrain):
      return self.apply(*args)


class Guide(NamedTuple):
  """Another network, which guidance may lead away from.

  Attributes:
    apply: the network.
    params: its parameters.
    scalars: the scalar conditions that it takes; without guidance.
    answers: see `Generator`.
  """

  apply: Network
  params: Any
  scalars: tuple[str, ...] = ()
  answers: str = AVERAGE


@dataclasses.dataclass(frozen=True)
class Generator:
  """generator(n, ...) -> `Samples`: a network with parameters.

  Example i is a function of (seed, i): batches have one fixed shape and the
  last one is padded, so an example is equal to the byte for every n, and to
  float tolerance for every batch size and mesh. On a mesh over several
  processes every method is collective.

  A network that takes the guidance scale as a scalar condition is conditioned
  on it, at no extra call, and on 1 without guidance. Any other network is
  called a second time, without its conditions, or another network is called.

  Attributes:
    apply: the network; programs are cached by it.
    params: its parameters, on the first device or sharded by `layout`.
    spec: of the data that it was trained on.
    batch_size: of its calls; rounded up to a multiple that the mesh divides.
    scalars: the scalar conditions [b] that it takes.
    layout: the devices over which a batch is sharded; None is the first one.
    space: decodes the samples; None is the identity.
    grid: of the samples where none is given.
    guides: role -> another network, for guidance away from it.
    answers: what the network was trained to answer, see `plan_sampling`.
  """

  apply: Network
  params: Any
  spec: DataSpec
  batch_size: int
  scalars: tuple[str, ...] = ()
  layout: Layout | None = None
  space: Space | None = None
  grid: Grid = 'uniform'
  guides: Mapping[str, Guide] = dataclasses.field(default_factory=dict)
  answers: str = AVERAGE

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
    grid: Grid | None = None,
    **options: Any,
  ) -> Samples:
    """Draws examples `first` to `first` + n − 1 of a seed.

    Args:
      n: number of examples, at least 1.
      sampler: a name in SAMPLERS or PUBLISHED.
      nfe: network calls for one example, with those of guidance; None for an
        adaptive sampler.
      cond: name -> array [n, ...].
      guidance: λ, or {'scale': λ, 'low': 0.0, 'high': 1.0}: at times in
        [low, high], λ u(cond) + (1 − λ) u(null) replaces u(cond). With
        'against' and a role of `guides`, its network replaces u(null); both
        must answer average velocities if the sampler asks for any.
      seed: all noise of example i is a function of (seed, i).
      first: number of the first example.
      grid: a name in GRIDS, or {'name': a name, and that grid's options};
        None is that of the generator.
      **options: of the sampler.

    Raises:
      ValueError: see `plan_sampling`; for a condition whose length is not n,
        or a tolerance that is not reached.
    """
    first, n = check_range(first, n)
    rows.check(n, cond=cond or {})
    options |= {'grid': grid, 'guidance': guidance, 'seed': seed}
    drawn = self.stream(
      n,
      sampler=sampler,
      nfe=nfe,
      cond_at=lambda index: rows.take(dict(cond or {}), index),
      first=first,
      **options,
    )
    x, nfes = zip(*drawn, strict=True)
    return Samples(np.concatenate(x), np.concatenate(nfes))

  def stream(
    self,
    n: int,
    *,
    sampler: str,
    nfe: int | None,
    cond_at: CondAt,
    seed: int = 0,
    first: int = 0,
    **options: Any,
  ) -> Iterator[Samples]:
    """Draws as a call does, batch by batch, in constant memory.

    Args:
      n: number of examples.
      sampler: see a call.
      nfe: see a call.
      cond_at: index [b] -> name -> array [b, ...], from 0 to n − 1.
      seed: see a call.
      first: see a call.
      **options: of the sampler, 'grid' and 'guidance'.

    Raises:
      ValueError: see a call. All that can be known before is raised at once.
    """
    first, n = check_range(first, n)
    options['grid'] = options.get('grid') or grid_of(sampler, self.grid)
    plan = self._plan(sampler, nfe, options)
    key = jax.random.key(check_seed(seed))

    def start(index: np.ndarray) -> tuple[Any, Any]:
      return self._noise(key, first + index, self.spec.shape)

    batches = self._solve(n, plan, start, cond_at)
    return (Samples(self.to_pictures(x)[: len(nfe)], nfe) for x, nfe in batches)

  def encode(
    self,
    x0: np.ndarray,
    *,
    sampler: str = 'heun',
    nfe: int | None = 32,
    cond: Cond | None = None,
    guidance: Guidance | None = None,
    grid: Grid | None = None,
    **options: Any,
  ) -> Samples:
    """Integrates from data x0 [n, ...] to noise, along the reversed grid.

    x0 is encoded by `space` first, and the arguments are those of a call.

    Raises:
      ValueError: as for a call, and for a sampler that is no ODE solver.
    """
    options |= {
      'grid': grid or grid_of(sampler, self.grid),
      'guidance': guidance,
    }
    plan = self._plan(sampler, nfe, options, backwards=True)

    def start(index: np.ndarray) -> tuple[Any, Any]:
      x = self.to_space(rows.take(np.asarray(x0, np.float32), index))
      _, unused = self._noise(jax.random.key(0), index, ())
      return self._spread(x), unused

    cond = dict(cond or {})
    rows.check(len(x0), cond=cond)
    batches = self._solve(
      len(x0), plan, start, lambda index: rows.take(cond, index)
    )
    x, nfes = zip(*batches, strict=True)
    return Samples(np.concatenate(x)[: len(x0)], np.concatenate(nfes))

  def to_space(self, x0: np.ndarray) -> np.ndarray:
    """Images [n, ...] as the network sees them."""
    return x0 if self.space is None else self._by(self.space.encode, x0)

  def to_pictures(self, x: np.ndarray) -> np.ndarray:
    """Outputs of the network [n, ...] as images."""
    return x if self.space is None else self._by(self.space.decode, x)

  def _by(self, code: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """code(x); where it is a network, each host has its share of the rows."""
    if self.layout is None or self.space is None or not self.space.moments:
      return np.asarray(code(x))
    return self.layout.divided(code, x)

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
    inputs = [np.asarray(a, np.float32) for a in states.values()], cond or {}
    batches = []
    for index in rows.indices(len(x_t), self.rows_at_once):
      arrays, conds = self._spread(rows.take(inputs, index))
      batches.append(call(self._network, self.params, *arrays, conds))
    return np.concatenate([*map(self._collect, batches)])[: len(x_t)]

  def _plan(self, *args: Any, **kwargs: Any) -> Plan:
    return plan_sampling(
      *args,
      spec=self.spec,
      scalars=self.scalars,
      answers=self.answers,
      guides=lambda: {n: guide.answers for n, guide in self.guides.items()},
      **kwargs,
    )

  def _solve(
    self, n: int, plan: Plan, start: Start, cond_at: CondAt
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Padded batches of x at the plan's last time, and their NFE [b] without.

    While one is used, the next is computed.
    """
    for left, solved in ahead(self._dispatch(n, plan, start, cond_at)):
      x, nfe, arrived = map(self._collect, solved)
      if plan.control is not None:
        plan.control.check_arrived(arrived[:left])
      yield x, nfe[:left]

  def _dispatch(
    self, n: int, plan: Plan, start: Start, cond_at: CondAt
  ) -> Iterator[tuple[int, tuple[jax.Array, ...]]]:
    """Yields how many examples are left before a batch, and its results."""
    worse = {}
    if plan.guidance is not None and plan.against != NULL:
      guide = self.guides[plan.against]
      network = self._sharded(guide.apply)
      worse = {'apply_worse': network, 'params_worse': guide.params}
    for index in rows.indices(n, self.rows_at_once):
      given = cond_at(np.minimum(index, n - 1))
      cond = {**_full(plan.scalars, len(index)), **given}
      conds = self._spread((cond, self._worse(plan, cond, given, len(index))))
      left = n - int(index[0])
      yield (
        left,
        solve(self._network, self.params, plan, *start(index), *conds, **worse),
      )

  def _worse(self, plan: Plan, cond: Cond, given: Cond, n: int) -> Cond:
    """The conditions of the second call, {} if there is none."""
    if plan.guidance is None:
      return {}
    if plan.against != NULL:
      scalars = as_scalars(None, self.guides[plan.against].scalars)
      return {**_full(scalars, n), **given}
    if not self.spec.cond.keys() & cond.keys():
      raise ValueError(
        f'cond = {sorted(cond)} must have one of {sorted(self.spec.cond)} for '
        'guidance away from its null value'
      )
    return self.spec.null(cond)

  def defaults_of(self, sampler: str) -> dict[str, Any]:
    """Its grid, as an option; {} if that is the plain one, from 1 to 0.

    {} too if the sampler has a grid of its own.
    """
    kept = self.grid in PLAIN or has_own_grid(sampler)
    return {} if kept else {'grid': self.grid}

  @property
  def _network(self) -> Network:
    return self._sharded(self.apply)

  def _sharded(self, apply: Network) -> Network:
    return apply if self.layout is None else RowSharded(apply, self.layout)

  @property
  def rows_at_once(self) -> int:
    """The batch size of its calls on these devices."""
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


def _full(scalars: Mapping[str, float], n: int) -> dict[str, np.ndarray]:
  return {k: np.full(n, value, np.float32) for k, value in scalars.items()}


def ahead(batches: Iterator[T]) -> Iterator[T]:
  """The same, each after the next one has been asked for."""
  for last in batches:
    for following in batches:
      yield last
      last = following
    yield last
