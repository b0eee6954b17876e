"""Arrays in half the bytes: which dtypes there are, and rounding to them.

An average moves by less than the last of bfloat16's eight digits at nearly
every step. Rounded to the nearest it would stand still for ever; rounded up or
down by chance, in proportion to what is cut off, it is right in the mean.

Source: Gupta et al., "Deep Learning with Limited Numerical Precision" (2015),
https://arxiv.org/abs/1502.02551, section 3, "stochastic rounding".
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Array = jax.Array
KEPT: dict[str, DTypeLike] = {
  'float32': jnp.float32,
  'bfloat16': jnp.bfloat16,
}
CUT = 16  # bits of a float32 that bfloat16 has not


def check_kept(dtype: str) -> None:
  """Raises ValueError if nothing can be kept in such a dtype."""
  if dtype not in KEPT:
    choices = ', '.join(map(repr, KEPT))
    raise ValueError(f'dtype = {dtype!r} must be one of {choices}')


def kept(tree: Any, dtype: str) -> Any:
  """The tree with its floating point arrays rounded to the nearest."""
  wanted = KEPT[dtype]

  def cast(x: Array) -> Array:
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(wanted) if floating else x

  return jax.tree.map(cast, tree)


def by_chance(x: Array, key: Array) -> Array:
  """float32 -> bfloat16: one of both neighbours, E = x; exact ones stay.

  Args:
    x: finite, of any shape.
    key: of the chance; the same for the same key.
  """
  # Sign and magnitude: what is added to the bits moves away from 0, and
  # carries with the probability that it should.
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  upper = ((bits + noise) >> CUT).astype(jnp.uint16)
  return jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
