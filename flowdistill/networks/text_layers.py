"""Layers of a text: of its own transformer, and between it and a picture.

Source of the short convolution, there causal and of four tokens, as a layer
sees those before it alone: Allen-Zhu, "Physics of Language Models: Part 4.1,
Architecture Design and the Magic of Canon Layers" (2025),
https://arxiv.org/abs/2512.17351; of the cross-attention: Chen et al.,
"PixArt-α" (2023), https://arxiv.org/abs/2310.00426, section 2.3.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import PLAIN, attend
from flowdistill.networks.precision import upcast
from flowdistill.networks.rotary import angles_in_row, rotate
from flowdistill.networks.token_layers import (
  by_heads,
  joined,
  normalise,
  on_rows,
  zero_linear,
)

Array = jax.Array
THETA = 10_000.0  # of the rotary positions
REACH = 3  # of the short convolution, to either side


class ShortConvolution(nnx.Module):
  """What a token takes from its neighbours, each channel by weights of its own.

  In random directions, so that 'red' beside 'square' is from the first step
  something else than 'red' beside 'star'.
  """

  def __init__(self, width: int, *, rngs: nnx.Rngs):
    size = 2 * REACH + 1
    bound, key = size**-0.5, rngs.params()
    self.kernel = nnx.Param(
      jax.random.uniform(key, (size, width), minval=-bound, maxval=bound)
    )

  def __call__(self, h: Array, real: Array) -> Array:
    """Tokens [b, n, width] -> what is added; `real`, bool [b, n], are seen."""
    n = h.shape[1]
    seen = jnp.where(real[..., None], h, 0)
    seen = jnp.pad(seen, ((0, 0), (REACH, REACH), (0, 0)))
    parts = (w * seen[:, k : k + n] for k, w in enumerate(self.kernel[...]))
    return sum(parts, start=jnp.zeros_like(h))


class Layer(nnx.Module):
  """A layer of the transformer of the text: attention and a hidden layer.

  Keys and queries turn by the places of their tokens, and neighbours are mixed
  before: without either, what belongs to which word is learnt several times as
  slowly (docs/t2i_shapes.md).
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    def linear(n_in: int, n_out: int) -> nnx.Linear:
      return nnx.Linear(n_in, n_out, dtype=dtype, rngs=rngs)

    self.heads, self.form = heads, form
    self.mix = ShortConvolution(width, rngs=rngs)
    self.qkv = linear(width, 3 * width)
    self.out = linear(width, width)
    self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

  def __call__(
    self, h: Array, mask: Array, real: Array, *, key: Array | None = None
  ) -> Array:
    """Tokens [b, n, width] -> the same.

    Args:
      h: the tokens.
      mask: as that of `attend`.
      real: bool [b, n], which tokens neighbours see.
      key: is ignored.
    """
    del key
    h = h + self.mix(h, real)
    q, k, v = by_heads(on_rows(self.qkv, normalise(h)), self.heads, 3)
    angles = angles_in_row(q.shape[-2], q.shape[-1], THETA)
    q, k = rotate(q, angles), rotate(k, angles)
    h = h + upcast(
      on_rows(self.out, joined(attend(q, k, v, mask, form=self.form)))
    )
    hidden = nnx.gelu(on_rows(self.up, normalise(h)))
    return h + upcast(on_rows(self.down, hidden))


class CrossAttention(nnx.Module):
  """Attention of tokens to a text, zero at initialisation; no norm, no gate."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    self.heads, self.form = heads, form
    self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
    self.keys = nnx.Linear(width, 2 * width, dtype=dtype, rngs=rngs)
    self.out = zero_linear(width, width, rngs=rngs)

  def __call__(self, h: Array, text: Array, real: Array) -> Array:
    """h [b, m, width] and a text [b, n, width] -> what is added to h.

    It is 0 where no token of the text is real.
    """
    (q,) = by_heads(on_rows(self.query, h), self.heads, 1)
    k, v = by_heads(on_rows(self.keys, text.astype(h.dtype)), self.heads, 2)
    some = jnp.any(real, axis=1)[:, None]
    a = attend(q, k, v, (real | ~some)[:, None, None], form=self.form)
    return jnp.where(some[..., None], upcast(on_rows(self.out, joined(a))), 0)
