"""A transformer of text and pictures in joint attention, u(x_t, t, s, cond).

Both kinds of tokens are attended to by both, and each has weights of its own.
Queries and keys are normalised, those of the picture get rotary positions, and
all layers are modulated by times, scalars, label and the pooled text. Without
text it is a transformer of the picture alone.

Source: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution
Image Synthesis" (2024), https://arxiv.org/abs/2403.03206, section 4; the
positions: `rotary.py`, without the absolute ones of that paper.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.attention import PLAIN
from flowdistill.networks.dit import check_tokens
from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import check_dropout
from flowdistill.networks.rotary import angles_of, rotate
from flowdistill.networks.stack import Stack
from flowdistill.networks.text import (
  NAMES,
  POOLED,
  check_text,
  make_projection,
  make_summary,
  make_text,
  mean_of,
)
from flowdistill.networks.token_layers import (
  attend_tokens,
  by_heads,
  modulate,
  on_rows,
  patchify,
  rms_norm,
  unpatchify,
  zero_linear,
)

Array = jax.Array


class MMDiT(nnx.Module):
  """A transformer of patches and text.

  Args:
    spec: of the data, of shape (h, w, c); its text: see `text.py`.
    patch: height and width of a patch; it divides h and w.
    width: of a token; `heads` divides it into multiples of 4.
    depth: number of blocks; the last has no text of its own, as none is asked
      for after it.
    heads: number of attention heads.
    mlp_ratio: width of a block's hidden layer over that of a token.
    dropout: dropout rate after attention and hidden layer, in [0, 1).
    text_depth: layers of a transformer of the text alone; None is 2 for
      `tokens`, and 0 for `text`.
    null: what no text is: 'empty', nothing is attended to; 'learnt', a token.
    theta: of the rotary positions.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or the spec has a condition that
      the network does not take.
  """

  signature: ClassVar[str] = 'average'

  def __init__(
    self,
    spec: DataSpec,
    *,
    patch: int = 2,
    width: int = 64,
    depth: int = 3,
    heads: int = 4,
    mlp_ratio: float = 4.0,
    dropout: float = 0.0,
    text_depth: int | None = None,
    null: str = 'empty',
    theta: float = 100.0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'mmdit', NAMES)
    check_text(spec)
    check_tokens(spec, 'an MMDiT', patch, width, depth, heads, mlp_ratio)
    check_dropout(dropout)
    if width // heads % 4:
      raise ValueError(
        f'heads = {heads} of width = {width} must have a multiple of 4 '
        'channels each, for rotary positions of rows and columns'
      )
    if not theta > 0:
      raise ValueError(f'theta = {theta} must be above 0')
    channels = spec.shape[-1]
    self.patch, self.size, self.theta = patch, width // heads, theta
    size = patch * patch * channels
    self.times = TimePair(width, max_frequency=options.max_frequency, rngs=rngs)
    self.label = make_label(spec.num_classes, width, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)
    self.pooled = make_projection(spec, POOLED, width, rngs=rngs)
    self.text = make_text(
      spec, width, heads, depth=text_depth, null=null, options=options,
      rngs=rngs,
    )  # fmt: skip
    length = 0 if self.text is None else self.text.length
    self.summary = make_summary(width, width, self.text, rngs=rngs)
    self.first = nnx.Linear(size, width, rngs=rngs)
    hidden = int(width * mlp_ratio)

    def blocks(number: int, *, last: bool) -> Stack:
      return Stack(
        lambda rngs: JointBlock(
          width, heads, hidden, dropout, length=length, last=last,
          dtype=options.products, form=options.attention_form, rngs=rngs,
        ),
        number,
        remat=options.remat,
        rngs=rngs,
      )  # fmt: skip

    self.blocks = blocks(depth - 1, last=False) if depth > 1 else None
    self.end = blocks(1, last=True)
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    self.last = zero_linear(width, size, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s [b] and `cond` [b, ...] -> [b, h, w, c].

    h and w may be other ones than in the spec: no parameter depends on them.
    """
    grid = x_t.shape[1] // self.patch, x_t.shape[2] // self.patch
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    if self.pooled is not None:
      e = e + self.pooled(cond[POOLED])
    h, mask = on_rows(self.first, patchify(x_t, self.patch)), None
    tokens = h.shape[1]
    if self.text is not None and self.summary is not None:
      text, real = self.text(cond)
      e = e + self.summary(mean_of(text, real))
      h = jnp.concatenate([text.astype(h.dtype), h], axis=1)
      mask = jnp.concatenate([real, jnp.ones((len(h), tokens), bool)], axis=1)
    e = nnx.silu(e)
    angles = angles_of(grid, self.size, self.theta)
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    if self.blocks is not None:
      h = self.blocks(h, e, mask, angles, key=keys[0])
    h = self.end(h, e, mask, angles, key=keys[1])[:, -tokens:]
    shift, scale = jnp.split(self.modulation(e)[:, None], 2, axis=-1)
    h = on_rows(self.last, modulate(h, shift, scale))
    return unpatchify(h, grid, self.patch)


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
