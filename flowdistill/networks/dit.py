"""A diffusion transformer with a second time, u(x_t, t, s, cond).

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022),
https://arxiv.org/abs/2212.09748, section 3 (adaLN-Zero blocks).
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.flow.spec import DataSpec
from flowdistill.networks import text
from flowdistill.networks.attention import attend
from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.stack import Stack

Array = jax.Array
LECUN = nnx.initializers.lecun_normal()


class DiT(nnx.Module):
  """A transformer of patches, its blocks modulated by times and conditions.

  It takes text conditions, see `text.py`.

  Args:
    spec: of the data, of shape (h, w, c).
    patch: height and width of a patch; it divides h and w.
    width: of a token; `heads` divides it.
    depth: number of blocks.
    heads: number of attention heads.
    mlp_ratio: width of a block's hidden layer over that of a token.
    dropout: dropout rate after attention and hidden layer, in [0, 1).
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
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'dit', text.NAMES)
    text.check_text(spec)
    if len(spec.shape) != 3:
      raise ValueError(f'a DiT takes images [h, w, c], not {list(spec.shape)}')
    height, across, channels = spec.shape
    check_sizes(patch=patch, width=width, depth=depth, heads=heads)
    check_dropout(dropout)
    if height % patch or across % patch:
      raise ValueError(f'patch = {patch} does not divide {height} x {across}')
    if width % heads:
      raise ValueError(f'heads = {heads} does not divide width = {width}')
    if not width * mlp_ratio >= 1:
      raise ValueError(f'mlp_ratio = {mlp_ratio} makes no layer, raise it')
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
    self.blocks = Stack(
      lambda rngs: Block(
        width, heads, hidden, dropout, dtype=options.products, rngs=rngs
      ),
      depth,
      remat=options.remat,
      rngs=rngs,
    )
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    self.last = zero_linear(width, size, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)
    self.text = text.make_projection(spec, text.TEXT, width, rngs=rngs)
    self.pooled = text.make_projection(spec, text.POOLED, width, rngs=rngs)

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
      e = e + self.pooled(cond[text.POOLED])
    e = nnx.silu(e)
    h = on_rows(self.first, patchify(x_t, self.patch)) + self.position[...]
    if self.text is None:
      h = self.blocks(h, e, None, key=key)
    else:
      tokens, mask = text.append_text(h, cond, self.text)
      h = self.blocks(tokens, e, mask, key=key)[:, : h.shape[1]]
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
    dtype: DTypeLike | None = None,
    init: nnx.Initializer = LECUN,
    rngs: nnx.Rngs,
  ):
    def linear(n_in: int, n_out: int) -> nnx.Linear:
      return nnx.Linear(n_in, n_out, dtype=dtype, kernel_init=init, rngs=rngs)

    self.heads = heads
    self.modulation = zero_linear(width, 6 * width, rngs=rngs)
    self.qkv = linear(width, 3 * width)
    self.out = linear(width, width)
    self.up, self.down = linear(width, hidden), linear(hidden, width)
    self.dropout = nnx.Dropout(dropout)

  def __call__(
    self, h: Array, e: Array, mask: Array | None, *, key: Array | None
  ) -> Array:
    """Tokens h [b, n, width] and embedding e [b, width] -> [b, n, width].

    `mask`, bool [b, n], is true for tokens that may be attended to; None allows
    all.
    """
    modulation = jnp.split(self.modulation(e)[:, None], 6, axis=-1)
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    a = self.attend(modulate(h, shift_a, scale_a), mask)
    h = h + gate_a * self.drop(a, keys[0])
    m = on_rows(self.hidden, modulate(h, shift_m, scale_m))
    return h + gate_m * self.drop(m, keys[1])

  def hidden(self, h: Array) -> Array:
    """The hidden layer, [rows, width] -> [rows, width]."""
    return self.down(nnx.gelu(self.up(h)))

  def attend(self, h: Array, mask: Array | None) -> Array:
    """Attention among the tokens of an example, [b, n, width] -> the same."""
    b, n, width = h.shape
    q, k, v = self.split(on_rows(self.qkv, h))
    if mask is not None:
      mask = mask[:, None, None]  # for all heads and queries
    a = jnp.moveaxis(attend(q, k, v, mask), 1, 2)
    return on_rows(self.out, a.reshape(b, n, width))

  def split(self, qkv: Array) -> Array:
    """[b, n, 3 width] -> q, k, v [3, b, heads, n, width / heads]."""
    b, n, width = qkv.shape
    # Heads first, and never joined with the batch: so what is sharded along
    # `tensor` stays sharded, and nothing is all-gathered.
    qkv = qkv.reshape(b, n, self.heads, 3, width // self.heads // 3)
    return jnp.moveaxis(qkv, (3, 2), (0, 2))

  def drop(self, h: Array, key: Array | None) -> Array:
    return self.dropout(h, deterministic=key is None, rngs=key)


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


def modulate(h: Array, shift: Array, scale: Array) -> Array:
  """Layer normalisation without parameters, then (1 + scale) h + shift."""
  mean = jnp.mean(h, axis=-1, keepdims=True)
  h = h - mean
  h = h * jax.lax.rsqrt(jnp.mean(h * h, axis=-1, keepdims=True) + 1e-6)
  return h * (1 + scale) + shift


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
