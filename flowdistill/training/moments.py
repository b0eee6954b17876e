"""The state of an optimiser in bfloat16, half the bytes.

An update is computed in float32, and its state then rounded stochastically:
rounded to the nearest, a second moment would never decay, as it changes by a
thousandth in an update, less than the last digit of bfloat16. (`mu_dtype` of
optax rounds the first moment alone, to the nearest.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flowdistill.training.rounding import cast, round_stochastically

Array = jax.Array


class Rounded(NamedTuple):
  """A state with bfloat16 arrays in place of float32 ones.

  Attributes:
    count: updates so far, int32, of which the random bits are a function.
    inner: the state.
  """

  count: Array
  inner: Any


def in_bfloat16(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """An optimiser whose state has bfloat16 arrays in place of float32 ones."""

  def init(params: Any) -> Rounded:
    state = cast(inner.init(params), 'bfloat16')
    return Rounded(jnp.zeros((), jnp.int32), state)

  def update(updates: Any, state: Any, params: Any = None) -> Any:
    wide = cast(state.inner, 'float32')
    updates, new = inner.update(updates, wide, params)
    key = jax.random.fold_in(jax.random.key(0), state.count)
    return updates, Rounded(state.count + 1, rounded(new, key))

  return optax.GradientTransformation(init, update)


def rounded(tree: Any, key: Array) -> Any:
  """The tree with its float32 arrays rounded stochastically to bfloat16."""
  leaves, structure = jax.tree.flatten(tree)
  new = [
    round_stochastically(x, jax.random.fold_in(key, i))
    if x.dtype == jnp.float32
    else x
    for i, x in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, new)
