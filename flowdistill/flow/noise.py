"""Numbered noise: it can be drawn again, and need not be stored.

Noise i of a seed does not depend on the rest of the batch, and is the same on
every kind of device (to float tolerance).
"""

import numbers
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
SEEDS = 2**32  # The number of seeds, and that of the examples of a seed.


def check_seed(seed: Any, name: str = 'seed') -> int:
  """The seed of random keys as an int.

  JAX would take a larger one modulo 2³², so that two seeds were one.

  Raises:
    ValueError: unless it is an integer in [0, 2³²).
  """
  whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
  if not whole or not 0 <= int(seed) < SEEDS:
    raise ValueError(f'{name} = {seed!r} must be an integer in [0, 2**32)')
  return int(seed)


def check_range(first: Any, n: Any) -> tuple[int, int]:
  """The numbers of examples, first to first + n − 1, as two ints.

  Raises:
    ValueError: unless n is at least 1 and they lie in [0, 2³²).
  """
  start = check_seed(first, 'first')
  whole = isinstance(n, numbers.Integral) and not isinstance(n, bool)
  if not whole or n < 1:
    raise ValueError(f'n = {n!r} must be an integer of at least 1')
  if start + int(n) > SEEDS:
    raise ValueError(
      f'n = {n} must be at most {SEEDS - start}: examples are numbered from '
      f'first = {start} to less than 2**32'
    )
  return start, int(n)


def numbered(
  keys: Array, index: Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
  """Noise x1 [b, *shape], N(0, 1) in float32, and keys [b] for later draws.

  Args:
    keys: random keys of the seeds, one or [b].
    index: numbers of the noise, integers [b] in [0, 2³²).
    shape: of one example.
  """
  keys = jnp.broadcast_to(keys, index.shape)
  folded = jax.vmap(jax.random.fold_in)(keys, index)
  of_x, after = jax.vmap(jax.random.split, out_axes=1)(folded)
  normal = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))
  return normal(of_x), after


def drawn_again(noise: Array, shape: tuple[int, ...]) -> Array:
  """x1 [b, *shape] of the pairs (seed, index), uint32 [b, 2]."""
  keys = jax.vmap(jax.random.key)(noise[:, 0])
  return numbered(keys, noise[:, 1], shape)[0]
