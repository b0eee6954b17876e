"""Numbered noise: it can be drawn again, and need not be stored.

Noise i of a seed does not depend on the rest of the batch, and is the same on
every kind of device (to float tolerance).
"""

import jax
import jax.numpy as jnp

Array = jax.Array
SEEDS = 2**32  # The number of seeds.


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
