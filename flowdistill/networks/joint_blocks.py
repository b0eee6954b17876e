"""The layers of text or picture in blocks of joint attention.

Each kind of tokens has layers of its own, modulated by the embedding e of times
and conditions, and is attended to by all:

  h ← h + gate · attention(all tokens) [+ gate₂ · attention(own tokens)]
  h ← h + gate · hidden layer

What is in brackets is the second attention of SD3.5 medium's first blocks,
which sees what the first one sees. Modulations are in the order of diffusers.

Source: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution
Image Synthesis" (2024), https://arxiv.org/abs/2403.03206, section 4;
https://github.com/huggingface/diffusers, 0.42, `SD3Transformer2DModel`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import PLAIN
from flowdistill.networks.precision import upcast
from flowdistill.networks.token_layers import (
  attend_tokens,
  by_heads,
  modulate,
  normalise,
  on_rows,
  rms_norm,
  zero_linear,
)

Array = jax.Array
MLP_RATIO = 4


class Read(NamedTuple):
  """What a stream has computed before attention.

  Attributes:
    qkv: queries, keys and values [b, heads, n, c].
    normed: the normalised tokens [b, n, width].
    rest: what is left of the modulation, each [b, 1, width].
  """

  qkv: list[Array]
  normed: Array
  rest: list[Array]


class Projections(nnx.Module):
  """Queries, keys and values of tokens.

  Args:
    width: of a token.
    heads: number of heads.
    normed: whether q and k of a head are divided by their root mean square.
    dtype: of the products.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    normed: bool,
    dtype: DTypeLike | None,
    rngs: nnx.Rngs,
  ):
    def linear() -> nnx.Linear:
      return nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    self.heads = heads
    self.query, self.key, self.value = linear(), linear(), linear()
    size = width // heads
    self.query_scale = nnx.Param(jnp.ones(size)) if normed else None
    self.key_scale = nnx.Param(jnp.ones(size)) if normed else None

  def __call__(self, h: Array) -> list[Array]:
    """[b, n, width] -> q, k, v [b, heads, n, c]."""
    q, k, v = (
      by_heads(on_rows(layer, h), self.heads, 1)[0]
      for layer in (self.query, self.key, self.value)
    )
    if self.query_scale is not None and self.key_scale is not None:
      q = rms_norm(q, self.query_scale[...])
      k = rms_norm(k, self.key_scale[...])
    return [q, k, v]


class Stream(nnx.Module):
  """All layers of one kind of tokens in a block.

  The modulation is shift, scale and gate of attention, the same of the hidden
  layer, and with `dual` the same of the second attention.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    normed: bool,
    dual: bool = False,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    def linear(n_in: int, n_out: int) -> nnx.Linear:
      return nnx.Linear(n_in, n_out, dtype=dtype, rngs=rngs)

    both: dict[str, Any] = {'normed': normed, 'dtype': dtype, 'rngs': rngs}
    self.chunks = 9 if dual else 6
    self.modulation = zero_linear(width, self.chunks * width, rngs=rngs)
    self.project = Projections(width, heads, **both)
    self.out = linear(width, width)
    self.second = Second(width, heads, form=form, **both) if dual else None
    hidden = MLP_RATIO * width
    self.up, self.down = linear(width, hidden), linear(hidden, width)

  def read(self, h: Array, e: Array) -> Read:
    """Tokens [b, n, width] and embedding e [b, width]."""
    normed, parts = normalise(h), self.modulation(e)[:, None]
    shift, scale, *rest = jnp.split(parts, self.chunks, axis=-1)
    return Read(self.project(normed * (1 + scale) + shift), normed, rest)

  def update(self, h: Array, a: Array, read: Read) -> Array:
    """Tokens h [b, n, width] after attention a [b, n, width]."""
    gate, shift, scale, gate_m, *rest = read.rest
    h = h + gate * upcast(on_rows(self.out, a))
    if self.second is not None:
      h = h + self.second(read.normed, *rest)
    m = on_rows(self.hidden, modulate(h, shift, scale))
    return h + gate_m * upcast(m)

  def hidden(self, h: Array) -> Array:
    """The hidden layer, [rows, width] -> [rows, width]."""
    return self.down(nnx.gelu(self.up(h)))


class Second(nnx.Module):
  """Attention among the tokens of one kind alone."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    normed: bool,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    self.form = form
    self.project = Projections(
      width, heads, normed=normed, dtype=dtype, rngs=rngs
    )
    self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

  def __call__(
    self, normed: Array, shift: Array, scale: Array, gate: Array
  ) -> Array:
    """Normalised tokens [b, n, width] -> what is added to them."""
    q, k, v = self.project(normed * (1 + scale) + shift)
    a = attend_tokens(q, k, v, None, form=self.form)
    return gate * upcast(on_rows(self.out, a))
