"""What the layers of a transformer do with tokens [b, n, width]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.attention import PLAIN, attend
from flowdistill.networks.precision import upcast

Array = jax.Array


def on_rows(layer: Callable[[Array], Array], h: Array) -> Array:
  """A layer applied to tokens [b, n, width] as to one matrix of b n rows.

  So the gradient does not contract over two axes, which is slow in XLA.
  """
  b, n, width = h.shape
  return layer(h.reshape(b * n, width)).reshape(b, n, -1)


def zero_linear(n_in: int, n_out: int, *, rngs: nnx.Rngs) -> nnx.Linear:
  """A linear layer that is zero at initialisation."""
  zeros = nnx.initializers.zeros
  return nnx.Linear(n_in, n_out, kernel_init=zeros, rngs=rngs)


def normalise(h: Array) -> Array:
  """Layer normalisation without parameters."""
  mean = jnp.mean(h, axis=-1, keepdims=True)
  h = h - mean
  return h * jax.lax.rsqrt(jnp.mean(h * h, axis=-1, keepdims=True) + 1e-6)


def modulate(h: Array, shift: Array, scale: Array) -> Array:
  """Layer normalisation without parameters, then (1 + scale) h + shift."""
  return normalise(h) * (1 + scale) + shift


def rms_norm(x: Array, scale: Array) -> Array:
  """scale x / √(mean of x²) along the last axis, in float32 or float64."""
  x = upcast(x)
  return (
    x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * (scale)
  )


def by_heads(x: Array, heads: int, parts: int) -> Array:
  """[b, n, parts · width] -> [parts, b, heads, n, width / heads].

  Heads first, and never joined with the batch: so what is sharded along
  `tensor` stays sharded, and nothing is all-gathered.
  """
  b, n, width = x.shape
  x = x.reshape(b, n, heads, parts, width // heads // parts)
  return jnp.moveaxis(x, (3, 2), (0, 2))


def attend_tokens(
  q: Array, k: Array, v: Array, mask: Array | None, *, form: str = PLAIN
) -> Array:
  """Attention in the dtype of v, [b, heads, n, c] -> [b, n, heads · c].

  Args:
    q: queries.
    k: keys.
    v: values.
    mask: bool [b, n], true for tokens that may be attended to; None allows all.
    form: of attention.
  """
  if mask is not None:
    mask = mask[:, None, None]  # for all heads and queries
  q, k = q.astype(v.dtype), k.astype(v.dtype)
  return joined(attend(q, k, v, mask, form=form))


def joined(a: Array) -> Array:
  """[b, heads, n, c] -> [b, n, heads · c]."""
  b, heads, n, c = a.shape
  return jnp.moveaxis(a, 1, 2).reshape(b, n, heads * c)


def patchify(x: Array, patch: int) -> Array:
  """[b, h, w, c] -> patches [b, (h / p)(w / p), p p c], row by row."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // patch, patch, w // patch, patch, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def unpatchify(x: Array, grid: tuple[int, int], patch: int) -> Array:
  """The inverse of `patchify`, for a grid of (h / p, w / p) patches."""
  b, (h, w) = len(x), grid
  x = x.reshape(b, h, w, patch, patch, -1)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * patch, w * patch, -1)
