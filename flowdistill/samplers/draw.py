"""Draws n examples from a network: example i is a function of (seed, i).

Batches have one fixed shape and the last one is padded, so an example is the
same to the byte however many are drawn, and to float tolerance whatever the
batch size.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.samplers import GRIDS, SAMPLERS
from flowdistill.samplers.integrate import sample, steps_for

Array = jax.Array
Cond = Mapping[str, np.ndarray]
Network = Callable[[Any, Array, Array, Array, Any], Array]
"""apply(params, x_t [b, ...], t [b], s [b], cond) -> [b, ...]."""


class Draw(Protocol):
  """draw(params, n, ...) -> n examples of a network, float32 [n, ...]."""

  def __call__(
    self,
    params: Any,
    n: int,
    *,
    sampler: str = 'euler',
    nfe: int = 8,
    cond: Cond | None = None,
    seed: int = 0,
    grid: str | Mapping[str, Any] = 'uniform',
    **options: Any,
  ) -> np.ndarray:
    """Draws examples 0 to n − 1 of a seed.

    Args:
      params: of the network.
      n: number of examples, at least 1.
      sampler: a name in SAMPLERS.
      nfe: calls of the network for one example.
      cond: name -> array [n, ...].
      seed: noise i, and every draw after it, is a function of (seed, i).
      grid: a name in GRIDS, or {'name': a name, and that grid's options}.
      **options: of the sampler.

    Raises:
      ValueError: for an unknown name, an option out of range, an nfe that the
        sampler cannot have, or a condition whose length is not n.
    """
    ...


def make_draw(
  apply: Network, shape: tuple[int, ...], *, batch_size: int
) -> Draw:
  """Returns `draw` for a network of examples of `shape`.

  It compiles once per sampler, its options and the number of steps; the
  parameters are an argument of the compiled program.
  """

  @functools.partial(jax.jit, static_argnames=('sampler', 'options'))
  def run(params, x1, keys, cond, times, sampler, options):
    method = SAMPLERS[sampler](
      lambda x, t, s: apply(params, x, t, s, cond), **dict(options)
    )
    return sample(method, times, x1, keys)

  def draw(
    params: Any,
    n: int,
    *,
    sampler: str = 'euler',
    nfe: int = 8,
    cond: Cond | None = None,
    seed: int = 0,
    grid: str | Mapping[str, Any] = 'uniform',
    **options: Any,
  ) -> np.ndarray:
    times = _times(sampler, options, nfe, grid)
    key, frozen = jax.random.key(seed), tuple(sorted(options.items()))
    batches = []
    for index, rows in _batches(n, batch_size, cond or {}):
      x1, keys = _noise(key, index, shape)
      x0 = run(params, x1, keys, rows, times, sampler, frozen)
      batches.append(np.asarray(x0))
    return np.concatenate(batches)[:n]

  return draw


@functools.partial(jax.jit, static_argnames='shape')
def _noise(
  key: Array, index: Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
  """x1 [b, ...] and keys [b]. Its own program: compiled once for all."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
  keys_x, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
  normal = jax.vmap(lambda k: jax.random.normal(k, shape, jnp.float32))
  return normal(keys_x), keys


def _times(
  sampler: str,
  options: Mapping[str, Any],
  nfe: int,
  grid: str | Mapping[str, Any],
) -> np.ndarray:
  """The grid on which the sampler makes `nfe` calls, float32 [steps + 1]."""
  spec = {'name': grid} if isinstance(grid, str) else dict(grid)
  make_grid = _entry(GRIDS, 'grid', spec.pop('name', ''))
  make_sampler = _entry(SAMPLERS, 'sampler', sampler)
  nfe_of_steps = make_sampler(lambda x, t, s: x, **options).nfe
  times = make_grid(steps_for(nfe_of_steps, nfe), **spec)
  return times.astype(np.float32)


def _entry(
  table: Mapping[str, Callable[..., Any]], kind: str, name: str
) -> Callable[..., Any]:
  if name not in table:
    raise ValueError(f'{kind} is {name!r}, the choices are {sorted(table)}')
  return table[name]


def _batches(
  n: int, size: int, cond: Cond
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
  """(index [size], cond [size, ...]); the last batch repeats the last row."""
  if n < 1:
    raise ValueError(f'n is {n}, it must be at least 1')
  for name, rows in cond.items():
    if len(rows) != n:
      raise ValueError(f'cond[{name!r}] has {len(rows)} rows, n is {n}')
  for start in range(0, n, size):
    index = np.arange(start, start + size)
    rows = np.minimum(index, n - 1)
    yield index, {name: np.asarray(c)[rows] for name, c in cond.items()}
