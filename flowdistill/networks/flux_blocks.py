"""The blocks of FLUX.1, on tokens [b, n, width] of a text, then a picture.

In a double block text and picture have layers of their own and are attended to
by both; in a single block they have the same layers, and attention and hidden
layer work on the same input, side by side. Queries and keys are divided by
their root mean square, times a scale, and turned by their positions.

Source: https://github.com/black-forest-labs/flux, of Black Forest Labs; double
blocks as in Esser et al., "Scaling Rectified Flow Transformers for
High-Resolution Image Synthesis" (2024), https://arxiv.org/abs/2403.03206,
single ones as in Dehghani et al., "Scaling Vision Transformers to 22 Billion
Parameters" (2023), https://arxiv.org/abs/2302.05442, section 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import PLAIN, attend
from flowdistill.networks.flux_positions import rotate
from flowdistill.networks.precision import upcast
from flowdistill.networks.token_layers import (
  by_heads,
  joined,
  modulate,
  on_rows,
  rms_norm,
  zero_linear,
)

Array = jax.Array
HIDDEN = 4  # width of a hidden layer over that of a token


class Projections(nnx.Module):
  """Queries, keys and values of each head, of modulated tokens.

  Args:
    width: of a token.
    heads: number of attention heads, which divides the width.
    dtype: of the large products.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self, width: int, heads: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs
  ):
    def linear() -> nnx.Linear:
      return nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    self.heads = heads
    self.query, self.key, self.value = linear(), linear(), linear()
    self.query_scale = nnx.Param(jnp.ones(width // heads))
    self.key_scale = nnx.Param(jnp.ones(width // heads))

  def __call__(self, m: Array) -> tuple[Array, Array, Array]:
    """[b, n, width] -> q, k, v [b, heads, n, c], of which q, k are float32."""
    q, k, v = (
      by_heads(on_rows(layer, m), self.heads, 1)[0]
      for layer in (self.query, self.key, self.value)
    )
    return (
      rms_norm(q, self.query_scale[...]),
      rms_norm(k, self.key_scale[...]),
      v,
    )


def attention(
  q: Array,
  k: Array,
  v: Array,
  angles: np.ndarray,
  mask: Array | None,
  *,
  form: str = PLAIN,
) -> Array:
  """Attention among all tokens, in the dtype of v.

  Args:
    q: [b, heads, n, c], as k and v.
    k: the keys.
    v: the values.
    angles: of the positions, [n, c / 2].
    mask: bool [b, n], true for tokens that may be attended to; None allows all.
    form: of attention.

  Returns:
    [b, n, heads · c].
  """
  q, k = (rotate(x, angles).astype(v.dtype) for x in (q, k))
  if mask is not None:
    mask = mask[:, None, None]  # for all heads and queries
  return joined(attend(q, k, v, mask, form=form))


class Stream(nnx.Module):
  """The layers of the text's or the picture's tokens in a double block."""

  def __init__(
    self, width: int, heads: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs
  ):
    def linear(n_in: int, n_out: int) -> nnx.Linear:
      return nnx.Linear(n_in, n_out, dtype=dtype, rngs=rngs)

    hidden = HIDDEN * width
    self.modulation = zero_linear(width, 6 * width, rngs=rngs)
    self.project = Projections(width, heads, dtype=dtype, rngs=rngs)
    self.out = linear(width, width)
    self.up, self.down = linear(width, hidden), linear(hidden, width)

  def modulated(self, e: Array) -> list[Array]:
    """Shift, scale and gate of attention, then of the hidden layer."""
    return jnp.split(self.modulation(e)[:, None], 6, axis=-1)

  def update(self, h: Array, a: Array, rest: list[Array]) -> Array:
    """Tokens h [b, n, width] after attention a, with what `rest` modulates."""
    gate_a, shift, scale, gate_m = rest
    h = h + gate_a * upcast(on_rows(self.out, a))
    hidden = nnx.gelu(on_rows(self.up, modulate(h, shift, scale)))
    return h + gate_m * upcast(on_rows(self.down, hidden))


class DoubleBlock(nnx.Module):
  """Attention among all tokens, by layers of text and of picture."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    self.form = form
    self.picture = Stream(width, heads, dtype=dtype, rngs=rngs)
    self.text = Stream(width, heads, dtype=dtype, rngs=rngs)

  def __call__(
    self,
    h: Array,
    e: Array,
    mask: Array | None,
    angles: np.ndarray,
    length: int,
    *,
    key: Array | None = None,
  ) -> Array:
    """Tokens h [b, n, width], `length` of them text -> the same; no dropout.

    `e` [b, width] is the embedding of times and conditions; `mask` and `angles`
    are those of `attention`.
    """
    del key
    parts = h[:, :length], h[:, length:]
    streams = self.text, self.picture
    projected, rests = [], []
    for stream, part in zip(streams, parts, strict=True):
      shift, scale, *rest = stream.modulated(e)
      projected.append(stream.project(modulate(part, shift, scale)))
      rests.append(rest)
    q, k, v = (
      jnp.concatenate(both, axis=2) for both in zip(*projected, strict=True)
    )
    a = attention(q, k, v, angles, mask, form=self.form)
    attended = a[:, :length], a[:, length:]
    updated = [
      stream.update(part, own, rest)
      for stream, part, own, rest in zip(
        streams, parts, attended, rests, strict=True
      )
    ]
    return jnp.concatenate(updated, axis=1)


class SingleBlock(nnx.Module):
  """Attention and a hidden layer side by side, for all tokens alike."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    self.form = form
    hidden = HIDDEN * width
    self.modulation = zero_linear(width, 3 * width, rngs=rngs)
    self.project = Projections(width, heads, dtype=dtype, rngs=rngs)
    self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
    self.out = nnx.Linear(width + hidden, width, dtype=dtype, rngs=rngs)

  def __call__(
    self,
    h: Array,
    e: Array,
    mask: Array | None,
    angles: np.ndarray,
    *,
    key: Array | None = None,
  ) -> Array:
    """As `DoubleBlock`, wherever the text ends."""
    del key
    shift, scale, gate = jnp.split(self.modulation(e)[:, None], 3, axis=-1)
    m = modulate(h, shift, scale)
    a = attention(*self.project(m), angles, mask, form=self.form)
    both = jnp.concatenate([a, nnx.gelu(on_rows(self.up, m))], axis=-1)
    return h + gate * upcast(on_rows(self.out, both))
