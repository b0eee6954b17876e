"""Weights in half the bytes: their dtypes, and stochastic rounding.

An update moves an EMA weight by less than the last of bfloat16's eight digits
nearly always. Rounded to the nearest it would never move; rounded up or down at
random, with a probability proportional to the part that is cut off, it is right
in expectation.

Source: Gupta et al., "Deep Learning with Limited Numerical Precision" (2015),
https://arxiv.org/abs/1502.02551, section 3, "stochastic rounding".
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Array = jax.Array
DTYPES: dict[str, DTypeLike] = {
  'float32': jnp.float32,
  'bfloat16': jnp.bfloat16,
}
CUT = 16  # bits of a float32 that bfloat16 does not have


def check_dtype(dtype: str) -> None:
  """Raises ValueError if weights cannot be stored in that dtype."""
  if dtype not in DTYPES:
    choices = ', '.join(map(repr, DTYPES))
    raise ValueError(f'dtype = {dtype!r} must be one of {choices}')


def cast(tree: Any, dtype: str) -> Any:
  """The tree with its floating-point arrays rounded to the nearest."""
  wanted = DTYPES[dtype]

  def cast_leaf(x: Array) -> Array:
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(wanted) if floating else x

  return jax.tree.map(cast_leaf, tree)


def round_stochastically(x: Array, key: Array) -> Array:
  """float32 -> bfloat16: one of both neighbours, E = x; exact ones stay.

  Args:
    x: finite, of any shape.
    key: random key; the same key rounds in the same way.
  """
  # Sign and magnitude: adding to the bits moves a number away from 0, and
  # carries with the probability that it should.
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  upper = ((bits + noise) >> CUT).astype(jnp.uint16)
  return jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
