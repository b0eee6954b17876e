"""The blocks of Stable Diffusion 3: joint attention of a picture and a text.

Tokens of the picture come first. The text of the last block is attended to, and
has no layers of its own after that.

Source: see `joint_blocks.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import PLAIN
from flowdistill.networks.joint_blocks import Projections, Read, Stream
from flowdistill.networks.token_layers import (
  attend_tokens,
  normalise,
  zero_linear,
)

Array = jax.Array


class Keys(nnx.Module):
  """Tokens that are attended to, and have no layers after that.

  The modulation is a scale and a shift.
  """

  chunks = 2

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    normed: bool,
    dtype: DTypeLike | None,
    rngs: nnx.Rngs,
  ):
    self.modulation = zero_linear(width, self.chunks * width, rngs=rngs)
    self.project = Projections(
      width, heads, normed=normed, dtype=dtype, rngs=rngs
    )

  def read(self, h: Array, e: Array) -> Read:
    """Tokens [b, n, width] and embedding e [b, width]."""
    normed = normalise(h)
    scale, shift = jnp.split(self.modulation(e)[:, None], self.chunks, axis=-1)
    return Read(self.project(normed * (1 + scale) + shift), normed, [])

  def update(self, h: Array, a: Array, read: Read) -> Array:
    """The tokens as they were."""
    del a, read
    return h


class JointBlock(nnx.Module):
  """Attention among all tokens, then a hidden layer for each.

  Args:
    width: of a token.
    heads: number of attention heads.
    normed: whether queries and keys are normalised.
    dual: whether the picture has a second attention.
    last: whether the text is attended to, and left as it is.
    dtype: of the large products.
    form: of attention.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    normed: bool,
    dual: bool,
    last: bool,
    dtype: DTypeLike | None,
    form: str = PLAIN,
    rngs: nnx.Rngs,
  ):
    self.form = form
    both: dict[str, Any] = {'normed': normed, 'dtype': dtype, 'rngs': rngs}
    self.picture = Stream(width, heads, dual=dual, form=form, **both)
    self.text = (Keys if last else Stream)(width, heads, **both)

  def __call__(
    self,
    h: Array,
    e: Array,
    mask: Array | None,
    size: int,
    *,
    key: Array | None = None,
  ) -> Array:
    """Tokens h [b, n, width] and embedding e [b, width] -> [b, n, width].

    The first `size` tokens are those of the picture. `mask`: see
    `attend_tokens`. `key` is ignored: there is no dropout.
    """
    del key
    tokens = jnp.split(h, [size], axis=1)
    streams = self.picture, self.text
    reads = [s.read(x, e) for s, x in zip(streams, tokens, strict=True)]
    q, k, v = [
      jnp.concatenate(each, axis=2)
      for each in zip(*(read.qkv for read in reads), strict=True)
    ]
    a = attend_tokens(q, k, v, mask, form=self.form)
    answers = jnp.split(a, [size], axis=1)
    parts = zip(streams, tokens, answers, reads, strict=True)
    return jnp.concatenate([s.update(x, a, r) for s, x, a, r in parts], axis=1)
