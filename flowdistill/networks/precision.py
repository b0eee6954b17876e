"""The dtypes in which a network computes.

Parameters are float32. 'bfloat16' rounds both operands of the large products,
and nothing else: times, embeddings, modulation, norms, softmax, the residual
stream and the output are float32, so that the derivative in time is accurate.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

BFLOAT16 = 'bfloat16'
PRODUCTS: dict[str, DTypeLike | None] = {
  # None is the dtype of the inputs, so that derivatives can be checked in
  # float64.
  'float32': None,
  BFLOAT16: jnp.bfloat16,
}


def upcast(x: jax.Array) -> jax.Array:
  """x in float32, or in float64 if it already is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
