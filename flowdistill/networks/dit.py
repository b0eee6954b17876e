"""A diffusion transformer with a second time, u(x_t, t, s, cond).

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022),
https://arxiv.org/abs/2212.09748, section 3 (adaLN-Zero blocks).
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.attention import PLAIN
from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import (
  check_choices,
  check_dropout,
  check_sizes,
)
from flowdistill.networks.stack import Stack
from flowdistill.networks.text import (
  NAMES,
  POOLED,
  append,
  check_text,
  has_text,
  make_projection,
  make_text,
)
from flowdistill.networks.text_layers import CrossAttention
from flowdistill.networks.token_layers import (
  attend_tokens,
  by_heads,
  modulate,
  on_rows,
  patchify,
  unpatchify,
  zero_linear,
)

Array = jax.Array
LECUN = nnx.initializers.lecun_normal()
TEXTS = ('context', 'cross')


class DiT(nnx.Module):
  """A transformer of patches, its blocks modulated by times and conditions.

  It takes text conditions, see `text.py`: in context, where text tokens are
  appended to those of the image, take part in every block and are dropped after
  the last one; or by cross-attention, without norm and gate, after the
  attention of every block.

  Args:
    spec: of the data, of shape (h, w, c).
    patch: height and width of a patch; it divides h and w.
    width: of a token; `heads` divides it.
    depth: number of blocks.
    heads: number of attention heads.
    mlp_ratio: width of a block's hidden layer over that of a token.
    dropout: dropout rate after attention and hidden layer, in [0, 1).
    text: how text is seen, 'context' or 'cross'.
    text_depth: layers of a transformer of the text alone; None is 2 for
      `tokens`, and 0 for `text`.
    null: what no text is: 'empty', nothing is attended to; 'learnt', a token.
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
    text: str = 'context',
    text_depth: int | None = None,
    null: str = 'empty',
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'dit', NAMES)
    check_text(spec)
    check_tokens(spec, 'a DiT', patch, width, depth, heads, mlp_ratio)
    check_dropout(dropout)
    check_choices(text=(text, TEXTS))
    height, across, channels = spec.shape
    self.patch, self.channels = patch, channels
    self.grid = (height // patch, across // patch)
    tokens, size = self.grid[0] * self.grid[1], patch * patch * channels
    normal = nnx.initializers.normal(0.02)
    self.position = nnx.Param(
      normal(rngs.params(), (tokens, width), jnp.float32)
    )
    self.times = TimePair(width, max_frequency=options.max_frequency, rngs=rngs)
    self.label = make_label(spec.num_classes, width, rngs=rngs)
    self.first = nnx.Linear(size, width, rngs=rngs)
    hidden = int(width * mlp_ratio)
    self.cross = text == 'cross' and has_text(spec)
    self.blocks = Stack(
      lambda rngs: Block(
        width,
        heads,
        hidden,
        dropout,
        cross=self.cross,
        dtype=options.products,
        form=options.attention_form,
        rngs=rngs,
      ),
      depth,
      remat=options.remat,
      rngs=rngs,
    )
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    self.last = zero_linear(width, size, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)
    self.text = make_text(
      spec, width, heads, depth=text_depth, null=null, options=options,
      rngs=rngs,
    )  # fmt: skip
    self.pooled = make_projection(spec, POOLED, width, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s [b] and `cond` [b, ...] -> [b, h, w, c]."""
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    if self.pooled is not None:
      e = e + self.pooled(cond[POOLED])
    e = nnx.silu(e)
    h = on_rows(self.first, patchify(x_t, self.patch)) + self.position[...]
    tokens, said = h.shape[1], ()
    mask = None
    if self.text is not None:
      said = self.text(cond)
      if not self.cross:
        (h, mask), said = append(h, *said), ()
    h = self.blocks(h, e, mask, *said, key=key)[:, :tokens]
    shift, scale = jnp.split(self.modulation(e)[:, None], 2, axis=-1)
    h = on_rows(self.last, modulate(h, shift, scale))
    return unpatchify(h, self.grid, self.patch)


class Block(nnx.Module):
  """Attention and a hidden layer, each shifted, scaled and gated by e."""

  def __init__(
    self,
    width: int,
    heads: int,
    hidden: int,
    dropout: float,
    *,
    cross: bool = False,
    dtype: DTypeLike | None = None,
    form: str = PLAIN,
    init: nnx.Initializer = LECUN,
    rngs: nnx.Rngs,
  ):
    def linear(n_in: int, n_out: int) -> nnx.Linear:
      return nnx.Linear(n_in, n_out, dtype=dtype, kernel_init=init, rngs=rngs)

    self.heads, self.form = heads, form
    self.modulation = zero_linear(width, 6 * width, rngs=rngs)
    self.qkv = linear(width, 3 * width)
    self.out = linear(width, width)
    self.up, self.down = linear(width, hidden), linear(hidden, width)
    self.dropout = nnx.Dropout(dropout)
    if cross:
      self.cross = CrossAttention(
        width, heads, dtype=dtype, form=form, rngs=rngs
      )
    else:
      self.cross = None

  def __call__(
    self,
    h: Array,
    e: Array,
    mask: Array | None,
    text: Array | None = None,
    real: Array | None = None,
    *,
    key: Array | None,
  ) -> Array:
    """Tokens h [b, n, width] and embedding e [b, width] -> [b, n, width].

    `mask`, bool [b, n], is true for tokens that may be attended to; None allows
    all. Tokens `text` [b, m, width], where they are `real` [b, m], are attended
    to by cross-attention.
    """
    modulation = jnp.split(self.modulation(e)[:, None], 6, axis=-1)
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    a = self.attend(modulate(h, shift_a, scale_a), mask)
    h = h + gate_a * self.drop(a, keys[0])
    if self.cross is not None and text is not None and real is not None:
      h = h + self.cross(h, text, real)
    m = on_rows(self.hidden, modulate(h, shift_m, scale_m))
    return h + gate_m * self.drop(m, keys[1])

  def hidden(self, h: Array) -> Array:
    """The hidden layer, [rows, width] -> [rows, width]."""
    return self.down(nnx.gelu(self.up(h)))

  def attend(self, h: Array, mask: Array | None) -> Array:
    """Attention among the tokens of an example, [b, n, width] -> the same."""
    q, k, v = self.split(on_rows(self.qkv, h))
    return on_rows(self.out, attend_tokens(q, k, v, mask, form=self.form))

  def split(self, qkv: Array) -> Array:
    """[b, n, 3 width] -> q, k, v [3, b, heads, n, width / heads]."""
    return by_heads(qkv, self.heads, 3)

  def drop(self, h: Array, key: Array | None) -> Array:
    return self.dropout(h, deterministic=key is None, rngs=key)


def check_tokens(
  spec: DataSpec,
  network: str,
  patch: int,
  width: int,
  depth: int,
  heads: int,
  mlp_ratio: float,
) -> None:
  """Raises ValueError for options that make no transformer of the images."""
  if len(spec.shape) != 3:
    raise ValueError(
      f'{network} takes images [h, w, c], not {list(spec.shape)}'
    )
  height, across, _ = spec.shape
  check_sizes(patch=patch, width=width, depth=depth, heads=heads)
  if height % patch or across % patch:
    raise ValueError(f'patch = {patch} does not divide {height} x {across}')
  if width % heads:
    raise ValueError(f'heads = {heads} does not divide width = {width}')
  if not width * mlp_ratio >= 1:
    raise ValueError(f'mlp_ratio = {mlp_ratio} makes no layer, raise it')
