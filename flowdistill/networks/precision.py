"""What a network computes in.

Parameters are float32. 'bfloat16' rounds both sides of the large products, and
nothing else: times, embeddings, modulation, norms, softmax, the sums between
layers and the answer are float32, so that a derivative in time stays one.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

PRODUCTS: dict[str, DTypeLike | None] = {
  'float32': None,  # of the inputs: in float64 a check of a derivative is one
  'bfloat16': jnp.bfloat16,
}


def product_dtype(dtype: str) -> DTypeLike | None:
  """The `dtype` of the layers that make the large products.

  Raises:
    ValueError: if there is no such option.
  """
  if dtype not in PRODUCTS:
    choices = ', '.join(map(repr, sorted(PRODUCTS)))
    raise ValueError(f'dtype = {dtype!r} must be one of {choices}')
  return PRODUCTS[dtype]


def wide(x: jax.Array) -> jax.Array:
  """In float32 at least."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
