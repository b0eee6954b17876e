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

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.attention import PLAIN
from flowdistill.networks.flux_positions import rotate
from flowdistill.networks.joint_blocks import MLP_RATIO, Projections, Stream
from flowdistill.networks.precision import upcast
from flowdistill.networks.token_layers import (
  attend_tokens,
  modulate,
  on_rows,
  zero_linear,
)

Array = jax.Array


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
  q, k = rotate(q, angles), rotate(k, angles)
  return attend_tokens(q, k, v, mask, form=form)


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
    own: dict[str, Any] = {'normed': True, 'dtype': dtype, 'rngs': rngs}
    self.picture = Stream(width, heads, **own)
    self.text = Stream(width, heads, **own)

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
    reads = [s.read(x, e) for s, x in zip(streams, parts, strict=True)]
    q, k, v = (
      jnp.concatenate(both, axis=2)
      for both in zip(*(read.qkv for read in reads), strict=True)
    )
    a = attention(q, k, v, angles, mask, form=self.form)
    each = zip(
      streams, parts, (a[:, :length], a[:, length:]), reads, strict=True
    )
    return jnp.concatenate([s.update(x, a, r) for s, x, a, r in each], axis=1)


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
    hidden = MLP_RATIO * width
    self.modulation = zero_linear(width, 3 * width, rngs=rngs)
    self.project = Projections(
      width, heads, normed=True, dtype=dtype, rngs=rngs
    )
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
    q, k, v = self.project(m)
    a = attention(q, k, v, angles, mask, form=self.form)
    both = jnp.concatenate([a, nnx.gelu(on_rows(self.up, m))], axis=-1)
    return h + gate * upcast(on_rows(self.out, both))
