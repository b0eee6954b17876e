"""Blocks of joint attention of text and picture, with weights for each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import PLAIN
from flowdistill.networks.rotary import rotate
from flowdistill.networks.token_layers import (
  attend_tokens,
  by_heads,
  modulate,
  on_rows,
  rms_norm,
  zero_linear,
)

Array = jax.Array


class JointBlock(nnx.Module):
  """Attention among all tokens, then a hidden layer for each.

  Args:
    width: of a token.
    heads: number of attention heads.
    hidden: width of the hidden layers.
    dropout: see `MMDiT`.
    length: number of tokens of the text, which are the first ones.
    last: whether those of the text are attended to, and left as they are.
    dtype: of the large products.
    form: of attention.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    hidden: int,
    dropout: float,
    *,
    length: int,
    last: bool,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    self.length, self.form = length, form
    both: dict[str, Any] = {'dtype': dtype, 'rngs': rngs}
    self.picture = Stream(width, heads, hidden, dropout, **both)
    if not length:
      self.text = None
    elif last:
      self.text = Keys(width, heads, parts=2, **both)
    else:
      self.text = Stream(width, heads, hidden, dropout, **both)

  def __call__(
    self,
    h: Array,
    e: Array,
    mask: Array | None,
    angles: np.ndarray,
    *,
    key: Array | None = None,
  ) -> Array:
    """Tokens h [b, n, width] and embedding e [b, width] -> [b, n, width].

    `mask`, bool [b, n], is true for tokens that may be attended to; None allows
    all. `angles` [tokens of the picture, c / 2] are those of their positions.
    """
    text, picture = h[:, : self.length], h[:, self.length :]
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    (q, k, v), rest = self.picture.project(picture, e)
    q, k = rotate(q, angles), rotate(k, angles)
    if self.text is None:
      a = attend_tokens(q, k, v, mask, form=self.form)
      return self.picture.update(picture, a, rest, keys[0])
    (*query, key_, value), rest_text = self.text.project(text, e)
    q = jnp.concatenate([*query, q], axis=2)
    k, v = jnp.concatenate([key_, k], 2), jnp.concatenate([value, v], 2)
    a = attend_tokens(q, k, v, mask, form=self.form)
    if isinstance(self.text, Stream):
      text = self.text.update(text, a[:, : self.length], rest_text, keys[1])
    picture = self.picture.update(
      picture, a[:, -picture.shape[1] :], rest, keys[0]
    )
    return jnp.concatenate([text, picture], axis=1)


class Keys(nnx.Module):
  """Modulated tokens as keys and values, or with queries, of each head.

  Queries and keys are divided by their root mean square, and multiplied by a
  scale: |q · k| / √c is at most √c times the largest scales, however large the
  weights get.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    parts: int,
    dtype: DTypeLike | None,
    rngs: nnx.Rngs,
  ):
    self.heads, self.parts = heads, parts
    self.modulation = zero_linear(width, self.chunks * width, rngs=rngs)
    self.qkv = nnx.Linear(width, parts * width, dtype=dtype, rngs=rngs)
    self.scale = nnx.Param(jnp.ones((parts - 1, width // heads)))

  @property
  def chunks(self) -> int:
    """Vectors [width] of the modulation: a shift and a scale."""
    return 2

  def project(self, h: Array, e: Array) -> tuple[list[Array], list[Array]]:
    """(q,) k, v [b, heads, n, c]; and what is left of the modulation."""
    modulation = self.modulation(e)[:, None]
    shift, scale, *rest = jnp.split(modulation, self.chunks, axis=-1)
    qkv = on_rows(self.qkv, modulate(h, shift, scale))
    *normed, v = by_heads(qkv, self.heads, self.parts)
    scales = self.scale[...]
    normed = [rms_norm(x, g) for x, g in zip(normed, scales, strict=True)]
    return [*normed, v], rest


class Stream(Keys):
  """The layers of one kind of tokens in a block."""

  def __init__(
    self,
    width: int,
    heads: int,
    hidden: int,
    dropout: float,
    *,
    dtype: DTypeLike | None,
    rngs: nnx.Rngs,
  ):
    super().__init__(width, heads, parts=3, dtype=dtype, rngs=rngs)

    def linear(n_in: int, n_out: int) -> nnx.Linear:
      return nnx.Linear(n_in, n_out, dtype=dtype, rngs=rngs)

    self.out = linear(width, width)
    self.up, self.down = linear(width, hidden), linear(hidden, width)
    self.dropout = nnx.Dropout(dropout)

  @property
  def chunks(self) -> int:
    """Those of attention and of the hidden layer: shift, scale and gate."""
    return 6

  def update(
    self, h: Array, a: Array, modulation: list[Array], key: Array | None
  ) -> Array:
    """Tokens h [b, n, width] after attention a [b, n, width]."""
    gate_a, shift, scale, gate_m = modulation
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    h = h + gate_a * self.drop(on_rows(self.out, a), keys[0])
    m = on_rows(self.hidden, modulate(h, shift, scale))
    return h + gate_m * self.drop(m, keys[1])

  def hidden(self, h: Array) -> Array:
    """The hidden layer, [rows, width] -> [rows, width]."""
    return self.down(nnx.gelu(self.up(h)))

  def drop(self, h: Array, key: Array | None) -> Array:
    return self.dropout(h, deterministic=key is None, rngs=key)
